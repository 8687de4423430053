"""`make reproduce`, on a part of the data."""

import json

from bench import reproduce
from bench.across import beside_published, over_all


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


def interval(mean):
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


def payload(own, rival, *, area=0.0):
    """An evaluation of a bundle that earns so much at λ = 0, beside a rival and two single models."""
    rows = {"erp λ=0": ("erp", "erp", "bundle", own), "Zooter λ=0": ("zooter", "Zooter", "rival", rival),
            "best single model": ("single:big", "single: big", "single", 0.5),
            "single: small": ("single:small", "single: small", "single", 0.9),
            "oracle λ=0": ("oracle", "oracle", "bound", 1.0)}  # fmt: skip
    points = [{"cost_usd": cost, "reward": reward, "reward_ci": [reward - 0.1, reward + 0.1]}
              for cost, reward in ((1e-3, 0.9), (1e-4, 0.5))]  # fmt: skip
    return {
        "verdict": {"best_single": "big"},
        "cost": {"scale": 1000.0},
        "policies": {
            name: {"curve": key, "label": label, "kind": kind, "lambda": None if kind == "single" else 0.0,
                   "reward": reward, "bundle_ahead": {"reward": interval(own - reward)}}
            for name, (key, label, kind, reward) in rows.items()
        },
        "curves": {
            key: {"label": label, "kind": kind, "area": interval(reward + area), "bundle_ahead": interval(own - reward),
                  "points": points}
            for key, label, kind, reward in rows.values()
        } | {"mixture": {"label": "mixture of single models", "kind": "baseline", "area": interval(0.4),
                         "bundle_ahead": None, "points": points}},
    }  # fmt: skip


def test_the_table_over_all_data_sets_has_mean_ranks_and_what_is_clear():
    lines = over_all({"one": payload(0.7, 0.6), "two": payload(0.65, 0.655), "three": payload(0.6, 0.65)}, {})
    found = {cells[1].strip(" *"): [cell.strip(" *") for cell in cells[2:-1]] for line in lines[2:]
             if (cells := line.split("|"))}  # fmt: skip
    # First, second, second; bounds and single models but the best are not ranked.
    assert found == {
        "erp": ["1.7", "1.7", "", ""],
        "Zooter": ["1.3", "1.3", "1, 1 of 3", "1, 1 of 3"],
        "best single model": ["3.0", "3.0", "3, 0 of 3", "3, 0 of 3"],
        "mixture of single models": ["", "4.0", "", ""],
    }


def test_published_points_stand_beside_a_curve_at_their_cost():
    line = next(line for line in beside_published(payload(0.7, 0.6)) if line.startswith("| 0.65 "))
    expected = 0.5 + 0.4 * (0.65 - 0.1) / 0.9
    assert f"| 0.898 | {expected:.3f} ({expected - 0.1:.3f} to {expected + 0.1:.3f}) | {expected:.3f} |" in line
