"""What the documentation says is what the code does."""

import dataclasses
import re
from pathlib import Path

import yaml

from erp_trainer.pool.prices import load_prices
from litellm_erp.choice.cost import Price
from litellm_erp.goals import settings as settings_file
from scripts.write_cli_reference import TARGET, reference

REPOSITORY = Path(__file__).parent.parent


def test_the_command_line_reference_is_up_to_date():
    assert TARGET.read_text(encoding="utf-8") == reference(), "run python scripts/write_cli_reference.py"


def test_every_erp_settings_block_in_the_documentation_is_valid():
    blocks = [
        block
        for page in (REPOSITORY / "README.md", REPOSITORY / "docs" / "configuration.md")
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        if "erp_settings" in block
    ]
    assert blocks
    for block in blocks:
        settings_file.parse(yaml.safe_load(block)["erp_settings"], REPOSITORY / "config.yaml")


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
    for page in [REPOSITORY / "README.md", *REPOSITORY.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
