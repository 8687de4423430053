"""What the documentation says is what the code does."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from erp_trainer.pool.pool import Pool, PoolModel, RaySettings, Sampling
from erp_trainer.pool.pool import load as load_pool
from erp_trainer.pool.prices import load_prices
from erp_trainer.prompts.sources import SourceSpec
from erp_trainer.rewards.registry import KINDS, load_reward_model
from litellm_erp.choice.cost import Price
from litellm_erp.goals import settings as settings_file
from scripts import write_cli_reference, write_metrics_reference

REPOSITORY = Path(__file__).parent.parent
PAGES = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("examples/*/README.md")]
OURS = re.compile(r"(?<![\w./])(?:litellm_erp|trainer|tests|demo|bench|scripts|docs|examples)/[\w./-]*")
# A pool file that a block of the documentation is a part of.
WHOLE_POOL = {
    "prompts": {"source": "questions.jsonl"},
    "models": {"small": {"model": "small"}},
    "rewards": [{"kind": "exact-match"}],
}


@pytest.mark.parametrize("page", [write_cli_reference, write_metrics_reference], ids=lambda page: page.TARGET.name)
def test_a_page_that_is_made_from_code_is_up_to_date(page):
    assert page.TARGET.read_text(encoding="utf-8") == page.reference(), f"run python scripts/{page.__name__[8:]}.py"


def test_every_erp_settings_block_in_the_documentation_is_valid(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1")
    blocks = [
        yaml.safe_load(block)
        for page in (
            REPOSITORY / "README.md",
            REPOSITORY / "docs" / "configuration.md",
            REPOSITORY / "docs" / "teams.md",
        )
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(blocks) >= 4
    for block in blocks:
        settings_file.parse(block.get("erp_settings", block), REPOSITORY / "config.yaml")


def test_every_setting_is_described():
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    for layout in (settings_file.Settings, settings_file.GroupSettings):
        keys = {
            {"goal": "policy", "override": "allow_override"}.get(f.name, f.name) for f in dataclasses.fields(layout)
        }
        assert keys - {"name", "source", "modes"} <= described


def test_every_price_file_in_the_documentation_loads_and_every_key_is_described(tmp_path):
    page = (REPOSITORY / "docs" / "prices.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    prices = {}
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block, encoding="utf-8")
        prices |= load_prices(file)
    assert prices["gpt-4o-mini"] == Price(0.15, 0.6)
    assert prices["big"] == Price(relative_cost=70.0)
    assert all(price.known for price in prices.values())
    assert re.findall(r"^\| `(\w+)`", page, re.MULTILINE) == [field.name for field in dataclasses.fields(Price)]


def test_every_link_in_the_documentation_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_path_of_ours_in_the_documentation_exists():
    for page in PAGES:
        for named in OURS.findall(page.read_text(encoding="utf-8")):
            assert (REPOSITORY / named.rstrip(".")).exists(), f"{page.name}: {named}"


def test_every_test_named_in_the_results_is_there():
    for named in re.findall(r"(?<![\w`/])test_\w+", (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")):
        assert (REPOSITORY / "tests" / f"{named}.py").exists(), named


def test_every_block_of_a_pool_file_in_the_documentation_is_valid(tmp_path, monkeypatch):
    page = (REPOSITORY / "docs" / "pool.md").read_text(encoding="utf-8")
    (function,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "judge.py").write_text(function, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    kinds = set()
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        file = tmp_path / "pool.yaml"
        file.write_text(yaml.safe_dump({**WHOLE_POOL, **yaml.safe_load(block)}), encoding="utf-8")
        for spec in load_pool(file).rewards:
            kinds.add(spec.kind)
            if "model" not in spec.options or "api_base" in spec.options:  # others read weights when they are made
                load_reward_model(spec)
    assert kinds == set(KINDS)


def test_every_key_of_a_pool_file_is_described():
    page = (REPOSITORY / "docs" / "pool.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE))))
    keys = {
        field.name
        for layout in (Pool, PoolModel, Sampling, RaySettings, SourceSpec)
        for field in dataclasses.fields(layout)
        if field.name not in ("base", "kind", "location", "name", "parameters", "preset", "refit_all")
    }
    assert keys | {"fit", "reasoning_effort", "thinking"} <= described
