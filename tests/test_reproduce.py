"""`make reproduce`, on a part of the data."""

import json

from bench import reproduce


def test_it_writes_every_table_and_figure_and_prints_the_main_ones(tmp_path, capsys):
    assert reproduce.main(["--only", "routellm_mmlu_gsm8k", "--out", str(tmp_path), "--prompts", "800"]) == 0
    folder = tmp_path / "routellm_mmlu_gsm8k"
    assert {path.name for path in folder.glob("report.*")} == {
        f"report.{s}" for s in ("html", "json", "csv", "png", "txt")
    }
    payload = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert payload["counts"]["test_prompts"] > 300
    said = capsys.readouterr().out
    assert payload["verdict"]["best_single"] in said
    label = next(curve["label"] for curve in payload["curves"].values() if curve["kind"] == "bundle")
    assert f"| **{label}, λ = 0** |" in said
