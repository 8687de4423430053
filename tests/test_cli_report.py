"""`erp-train report`, from a run and a bundle to files."""

import html
import json

import pytest

from erp_trainer.learning.verdict import headline
from tests.planted import planted_rows, write_outcomes
from tests.test_cli_fit import run


@pytest.fixture(scope="module")
def reported(planted_bundle, tmp_path_factory):
    """One evaluation in all four formats."""
    folder = tmp_path_factory.mktemp("reported")
    outs = [argument for suffix in ("html", "json", "csv", "png") for argument in ("--out", folder / f"r.{suffix}")]
    result = run(
        "report", planted_bundle.parent / "run", "--bundle", planted_bundle, *outs, "--title", "My pool", "--json"
    )
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


def test_one_evaluation_writes_every_format(reported):
    folder, said = reported
    assert [path.rsplit("/", 1)[1] for path in said["files"]] == ["r.html", "r.json", "r.csv", "r.png"]
    payload = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    assert payload["verdict"]["text"] == said["verdict"]["text"]
    assert (folder / "r.csv").read_text(encoding="utf-8").count("\nsingle:") == len(payload["models"])
    assert (folder / "r.png").stat().st_size > 10_000


def test_the_page_has_the_verdict_first_and_the_examples_later(reported):
    page = (reported[0] / "r.html").read_text(encoding="utf-8")
    payload = json.loads((reported[0] / "r.json").read_text(encoding="utf-8"))
    for key in ("verdict", "bundle_verdict"):
        items = [f"<li>{html.escape(sentence)}</li>" for sentence in payload[key]["sentences"][1:]]
        assert len(items) > 2
        assert all(item in page for item in items)
        assert " ".join(payload[key]["sentences"]) == payload[key]["text"]
    assert page.count(headline(payload["verdict"])) == 1
    places = [page.index(text) for text in ("My pool", "<h1>", 'id="frontier"', 'id="policies"', 'class="example"')]
    assert places == sorted(places)


@pytest.mark.parametrize("flag", ["--redact", "--no-prompts"])
def test_prompts_can_be_left_out_and_the_page_says_which_it_is(planted_bundle, reported, tmp_path, flag):
    out = tmp_path / "report"
    arguments = ("--bundle", planted_bundle, "--out", out, "--format", "html", "--no-rivals", flag)
    assert run("report", planted_bundle.parent / "run", *arguments).exit_code == 0
    texts = {row["prompt"] for row in planted_rows()}
    redacted, whole = (html.unescape(path.read_text(encoding="utf-8")) for path in (out, reported[0] / "r.html"))
    assert not any(text in redacted for text in texts)
    assert "No prompt is quoted in this file." in redacted
    quoted = sum(text in whole for text in texts)
    assert quoted
    assert "prompts of the run verbatim; erp-train report --redact leaves them out." in whole


def test_an_evaluation_that_was_kept_is_drawn_as_it_would_be_measured_and_only_of_its_own_run_and_bundle(
    planted_bundle, shuffled_bundle, reported, tmp_path
):
    kept, planted = tmp_path / "e.json", planted_bundle.parent / "run"
    assert run("evaluate", planted, "--bundle", planted_bundle, "--out", kept).exit_code == 0
    drawn = ("--evaluation", kept, "--out", tmp_path / "r.html", "--title", "My pool")
    assert run("report", planted, "--bundle", planted_bundle, *drawn).exit_code == 0
    assert (tmp_path / "r.html").read_bytes() == (reported[0] / "r.html").read_bytes()
    refused = run("report", planted, "--bundle", shuffled_bundle, *drawn)
    assert (refused.exit_code, "is of another bundle" in refused.stderr) == (2, True)
    refused = run("report", shuffled_bundle.parent / "run", "--bundle", planted_bundle, *drawn)
    assert (refused.exit_code, "is of another run" in refused.stderr) == (2, True)
    settled = run("report", planted, "--bundle", planted_bundle, *drawn, "--lambda", "0.5")
    assert "--lambda is what --evaluation has settled" in settled.stderr


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"of": 1}', '{"of": {"options": {}}}'])
def test_a_file_that_is_no_evaluation_is_one_error(planted_bundle, tmp_path, content):
    (tmp_path / "e.json").write_text(content)
    arguments = ("--bundle", planted_bundle, "--evaluation", tmp_path / "e.json", "--out", tmp_path / "r.html")
    refused = run("report", planted_bundle.parent / "run", *arguments)
    assert (refused.exit_code, "e.json" in refused.stderr, "evaluate RUN" in refused.stderr) == (2, True, True)


def test_an_unknown_format_is_refused_before_any_work(planted_bundle, tmp_path):
    result = run("report", tmp_path / "no run", "--bundle", planted_bundle, "--out", tmp_path / "report.pdf")
    assert result.exit_code == 2
    assert "expected .html, .json, .csv, .png" in result.output


def test_a_pool_of_one_model_has_a_report(tmp_path):
    rows = [row for row in planted_rows(120) if row["model"] == "mid"]
    prices = tmp_path / "prices.yaml"
    prices.write_text("mid: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}\n")
    outcomes = write_outcomes(tmp_path / "outcomes.jsonl", rows)
    for arguments in (
        ("import", outcomes, "--out", tmp_path / "run", "--prices", prices),
        ("fit", tmp_path / "run", "--out", tmp_path / "bundle"),
        ("report", tmp_path / "run", "--bundle", tmp_path / "bundle", "--out", tmp_path / "report.html"),
    ):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "report.html").exists()
