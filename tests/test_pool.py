"""Pool files are whole, or one clear error."""

import pytest
import yaml

from erp_trainer.pool import pool
from erp_trainer.sampling.stage import sample_parts
from litellm_erp.errors import SettingsError

DOCUMENT = {
    "prompts": {"file": "prompts.jsonl"},
    "sampling": {"engine": "server", "k": 8, "temperature": 0.9},
    "models": {
        "small": {"model": "org/small", "api_base": "http://127.0.0.1:1/v1", "api_key": "os.environ/POOL_KEY"},
        "terse": {"model": "org/small", "system_prompt": "Be terse.", "sampling": {"temperature": 0.2}},
    },
    "rewards": [{"kind": "exact-match"}],
}


def load(tmp_path, **changes):
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump({**DOCUMENT, **changes}))
    return pool.load(tmp_path / "pool.yaml")


def test_models_inherit_the_sampling_they_do_not_state(tmp_path):
    loaded = load(tmp_path)
    assert (loaded.models["small"].sampling.k, loaded.models["small"].sampling.temperature) == (8, 0.9)
    assert (loaded.models["terse"].sampling.k, loaded.models["terse"].sampling.temperature) == (8, 0.2)


def test_a_bundle_may_be_served_from_all_rows(tmp_path):
    assert not load(tmp_path).refit_all
    assert load(tmp_path, fit={"refit_all": True}).refit_all


def test_paths_start_from_the_file(tmp_path):
    assert load(tmp_path, run="elsewhere/run").run == tmp_path / "elsewhere" / "run"


def test_a_model_may_be_a_folder_beside_the_file_and_keeps_its_key_elsewhere(tmp_path):
    (tmp_path / "weights").mkdir()
    loaded = load(tmp_path, models={"a": {"model": "./weights"}, "b": {"model": "org/weights"}}).models
    assert [model.weights for model in loaded.values()] == [str(tmp_path / "weights"), "org/weights"]
    assert loaded["a"].identity()["model"] == "./weights"


def test_a_secret_is_read_when_needed_and_never_printed(tmp_path, monkeypatch):
    model = load(tmp_path).models["small"]
    with pytest.raises(SettingsError, match="POOL_KEY is not set"):
        model.secret()
    monkeypatch.setenv("POOL_KEY", "sk-secret")
    assert model.secret() == "sk-secret"
    assert "sk-secret" not in repr(model)


def test_where_a_model_is_served_is_not_part_of_its_identity(tmp_path):
    moved = {**DOCUMENT["models"]["small"], "api_base": "http://127.0.0.1:2/v1"}
    assert (
        load(tmp_path).models["small"].identity() == load(tmp_path, models={"small": moved}).models["small"].identity()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modles": {}}, "unknown key 'modles'"),
        ({"models": {"a": {}}}, r"models\.a\.model: found nothing"),
        ({"models": {"a": {"model": "m", "api_key": "sk-1"}}}, "os.environ/"),
        ({"models": {"a": {"model": "m", "price": {"input": 1}}}}, r"models\.a\.price: unknown key 'input'"),
        ({"sampling": {"k": 0}}, r"sampling\.k: found 0"),
        ({"sampling": {"k": 2.5}}, r"sampling\.k: found 2\.5"),
        ({"sampling": {"top_p": 2}}, r"sampling\.top_p: found 2"),
        ({"sampling": {"engine": "magic"}}, r"sampling\.engine: found 'magic'"),
        ({"rewards": []}, "rewards: found"),
        ({"rewards": [{"kind": "a"}, {"kind": "a"}]}, "two have the same name"),
        ({"rewards": [{"model": "m"}]}, r"rewards\[0\]\.kind"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path, changes, message):
    with pytest.raises(SettingsError, match=message) as error:
        load(tmp_path, **changes)
    assert "pool.yaml" in str(error.value)


DEEP = {"thinking": {"type": "enabled", "budget_tokens": 4000}}


def effort(tmp_path, **stated):
    return load(tmp_path, models={"a": {"model": "org/a", **stated}}).models["a"]


def test_effort_is_a_part_of_what_a_model_is_and_a_model_without_is_what_it_was(tmp_path):
    plain, low = effort(tmp_path), effort(tmp_path, reasoning_effort="low")
    assert plain.identity() == {"model": "org/a", "revision": None, "system_prompt": None}
    assert low.identity() == plain.identity() | {"parameters": {"reasoning_effort": "low"}}
    assert (
        sample_parts(tmp_path, low).folder != sample_parts(tmp_path, effort(tmp_path, reasoning_effort="high")).folder
    )
    short = effort(tmp_path, max_tokens=200)
    assert (short.parameters, short.sampling.max_tokens) == ({"max_tokens": 200}, 200)
    assert effort(tmp_path, **DEEP, sampling={"max_tokens": None}).parameters == DEEP


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"reasoning_effort": 3}, r"models\.a\.reasoning_effort"),
        ({"thinking": {"budget": 3}}, r"models\.a\.thinking"),
        ({"max_tokens": 0}, r"models\.a\.max_tokens"),
        ({"max_tokens": 9, "sampling": {"max_tokens": 8}}, "keep one of them"),
        ({"max_completion_tokens": 9}, "max_completion_tokens"),
        ({**DEEP}, "max_tokens 512 of its sampling leaves no answer beside a budget of 4000"),
        ({"engine": "vllm", "reasoning_effort": "low"}, "engine vllm cannot send reasoning_effort"),
        (
            {"engine": "transformers", "sampling": {"max_tokens": None}, **DEEP},
            "engine transformers cannot send thinking",
        ),
    ],
)
def test_what_effort_cannot_be_is_one_error_that_names_it(tmp_path, stated, said):
    with pytest.raises(SettingsError, match=said):
        effort(tmp_path, **stated)


def test_an_engine_of_ones_own_takes_a_limit_and_nothing_else(tmp_path):
    assert effort(tmp_path, engine="vllm", max_tokens=20).sampling.max_tokens == 20
    pool.load(tmp_path / "pool.yaml").on_ray()
    effort(tmp_path, reasoning_effort="low")
    with pytest.raises(SettingsError, match="engine ray cannot send reasoning_effort"):
        pool.load(tmp_path / "pool.yaml").on_ray()
