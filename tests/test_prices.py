"""Prices: stated ones are checked, missing ones are looked up, unknown ones are never zero."""

import subprocess
import sys

import pytest

from erp_trainer.pool.litellm_map import price_map
from erp_trainer.pool.price_names import PriceIndex
from erp_trainer.pool.prices import load_prices, price_template, resolve_prices
from litellm_erp.choice.cost import Price
from litellm_erp.errors import PricesError


def resolve(models, stated):
    warnings: list[str] = []
    return resolve_prices(models, stated, warn=warnings.append), warnings


def test_a_price_file_is_a_map_from_model_to_price(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text("a: {input_usd_per_mtok: 0.1, output_usd_per_mtok: 0}\nb: {relative_cost: 7}\n")
    assert load_prices(path) == {"a": Price(0.1, 0.0), "b": Price(relative_cost=7.0)}


BAD = {
    "unknown key": ("a: {input: 1}", ["'a'", "'input'", "input_usd_per_mtok"]),
    "negative": ("a: {relative_cost: -1}", ["'a'", "relative_cost", "-1"]),
    "beyond any float": ("a: {relative_cost: 1" + "0" * 399 + "}", ["'a'", "finite number"]),
    "not finite": ("a: {relative_cost: .inf}", ["'a'", "inf"]),
    "text": ("a: {relative_cost: cheap}", ["'a'", "'cheap'", "number"]),
    "boolean": ("a: {relative_cost: true}", ["'a'", "True"]),
    "both kinds": ("a: {relative_cost: 1, input_usd_per_mtok: 1}", ["'a'", "both"]),
    "no price": ("a: {}", ["'a'", "no price"]),
    "not a price": ("a: 3", ["'a'", "a int", "relative_cost"]),
    "number as key": ("a: {1: 2}", ["'a'", "unknown key 1"]),
    "number as model": ("4: {relative_cost: 1}", ["model name 4", "quotes"]),
    "a list": ("- a", ["a list", "map"]),
    "empty": ("", ["an empty file", "map"]),
    "not YAML": ("a: {b", ["not YAML", "line 1"]),
    "not UTF-8": (b"a: \xff", ["not UTF-8"]),
    "hundreds of digits": ("a: {relative_cost: 1" + "0" * 400 + "}", ["a number of 401 characters", "line 1"]),
    "thousands of hex digits": ("a: {relative_cost: 0x" + "f" * 9000 + "}", ["a number of 9,002 characters", "line 1"]),
    "beyond any price": ("a: {relative_cost: 1.0e+300}", ["'a'", "at most"]),
    "no date": ("a: 2024-99-99", ["not YAML"]),
    "deep": ("[" * 100_000, ["nested more than 64 deep"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_price_file_is_one_clear_error(tmp_path, case):
    content, named = BAD[case]
    path = tmp_path / "prices.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(PricesError) as caught:
        load_prices(path)
    assert [part for part in [str(path), *named] if part not in str(caught.value)] == []


def test_a_missing_price_file_is_named(tmp_path):
    with pytest.raises(PricesError, match=r"none\.yaml"):
        load_prices(tmp_path / "none.yaml")


def test_what_the_file_lacks_comes_from_the_price_map_of_litellm():
    prices, warnings = resolve(["gpt-4o-mini", "openai/gpt-4o-mini"], {})
    assert prices == dict.fromkeys(("gpt-4o-mini", "openai/gpt-4o-mini"), Price(0.15, 0.6, 0.075))
    assert warnings == []


@pytest.mark.parametrize(
    "name",
    [
        "google/gemini-2.5-pro",
        "gemini-2.5-pro",
        "Gemini 2.5 Pro",
        "vertex_ai/gemini-2.5-pro",
        "openrouter/google/gemini-2.5-pro",
        "google/gemini-2.5-pro:free",
        "models/gemini-2.5-pro",
        "publishers/google/models/gemini-2.5-pro",
        "vertex_ai/publishers/google/models/gemini-2.5-pro",
        "litellm_proxy/gemini-2.5-pro",
    ],
)
def test_a_model_goes_by_many_names_at_one_price(name):
    prices, warnings = resolve([name], {})
    assert (prices[name], warnings) == (Price(1.25, 10.0, 0.125), [])


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("gpt-4o-20240806", (2.5, 10.0)),
        ("gpt-4o@2024-08-06", (2.5, 10.0)),
        ("anthropic/claude-3-5-sonnet-20241022", (3.0, 15.0)),
        ("bedrock/converse/anthropic.claude-3-haiku-20240307-v1:0", (0.25, 1.25)),
        ("vertex_ai/claude-sonnet-4@20250514", (3.0, 15.0)),
        ("anthropic/claude-opus-4.1", (15.0, 75.0)),
        ("deepseek/deepseek-chat:free", (0.28, 0.42)),
    ],
)
def test_dates_regions_versions_and_offers_hide_no_price(name, price):
    prices, warnings = resolve([name], {})
    found = prices[name]
    assert ((found.input_usd_per_mtok, found.output_usd_per_mtok), warnings) == (price, [])


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-3.1-8B-Instruct",
        "hosted_vllm/gpt-4o",
        "openai/gpt-4o-mini:batch",
        "openrouter/meta-llama/llama-3.1-8b-instruct:free",
        "ollama/gpt-4o",
        "gpt-4o-mimi",
        "",
        "/",
        "a/",
        "x" * 9999,
    ],
)
def test_a_host_s_price_and_a_similar_name_s_are_never_guessed(name):
    prices, warnings = resolve([name], {})
    assert not prices[name].known
    assert len(warnings) == 1


def test_a_missing_price_names_the_price_file_only_where_there_is_one():
    _, (without,) = resolve(["own-8b"], {})
    assert "no price for 'own-8b' in LiteLLM's price map;" in without
    _, (beside,) = resolve(["own-8b", "a"], {"a": Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)})
    assert "in the price file or LiteLLM's price map;" in beside


def test_a_price_that_is_not_found_suggests_what_is_like_it():
    _, warnings = resolve(["gpt-4o-mimi"], {})
    assert "gpt-4o-mini" in warnings[0]


def test_the_entries_of_the_map_are_found_by_their_own_names():
    listed = {name: e for name, e in price_map().items() if (e.get("input_cost_per_token") or 0) > 0}
    assert len(listed) > 1000
    index = PriceIndex(price_map())
    assert all(index.key(name) == name for name in listed)


def test_prices_are_looked_up_without_importing_litellm():
    code = (
        "import sys; from erp_trainer.pool.prices import resolve_prices; "
        "prices = resolve_prices(['gpt-4o', *map(str, range(50))], {}, warn=str); "
        "sys.exit('litellm' in sys.modules or not prices['gpt-4o'].known)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_template_of_missing_prices_is_a_price_file_once_it_is_filled_in(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(price_template(["a: b", 'q"uote', "gpt-4o-mimi", "模型"]))
    with pytest.raises(PricesError, match="no price is stated"):
        load_prices(path)
    path.write_text(path.read_text().replace("null", "2"))
    assert load_prices(path) == dict.fromkeys(["a: b", 'q"uote', "gpt-4o-mimi", "模型"], Price(2.0, 2.0))


def test_a_stated_price_wins_over_the_price_map():
    prices, _ = resolve(["gpt-4o-mini"], {"gpt-4o-mini": Price(input_usd_per_mtok=9.0)})
    assert prices == {"gpt-4o-mini": Price(9.0, 0.6)}


@pytest.mark.parametrize("name", ["no-such-model", "ollama/no-such-model", "huggingface/no/such-model"])
def test_a_price_found_nowhere_is_a_warning_and_unknown(name):
    prices, warnings = resolve([name], {})
    assert not prices[name].known
    assert len(warnings) == 1
    assert repr(name) in warnings[0]


def test_a_zero_is_believed_when_stated_but_not_from_the_price_map():
    stated, _ = resolve(["mine"], {"mine": Price(0.0, 0.0)})
    listed, warnings = resolve(["ollama/llama3"], {})
    assert stated["mine"].known
    assert not listed["ollama/llama3"].known
    assert len(warnings) == 1


def test_relative_and_dollar_prices_do_not_mix():
    with pytest.raises(PricesError, match="'a' has a relative_cost and 'b' is in USD"):
        resolve(["a", "b"], {"a": Price(relative_cost=1.0), "b": Price(1.0, 1.0)})


def test_a_relative_pool_does_not_take_dollars_from_the_price_map():
    prices, warnings = resolve(["a", "gpt-4o-mini"], {"a": Price(relative_cost=1.0)})
    assert not prices["gpt-4o-mini"].known
    assert len(warnings) == 1


def test_a_price_nobody_needs_is_pointed_out():
    _, warnings = resolve(["a"], {"a": Price(1.0, 1.0), "aa": Price(1.0, 1.0)})
    assert len(warnings) == 1
    assert "'aa'" in warnings[0]
