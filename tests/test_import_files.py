"""`erp-train import` of files as other people have them: read as they are, or one clear error that says what to do."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from erp_trainer.cli import cli
from erp_trainer.console import columns
from erp_trainer.outcomes.run import open_run

ROWS = [
    ("p1", "one, two", "a", "1"),
    ("p1", "one, two", "b", "0.25"),
    ("p2", "x\ny", "a", "0"),
    ("p2", "x\ny", "b", "1"),
]
NAMES = ("prompt_id", "prompt", "model", "reward")
RECORDS = [dict(zip(NAMES, (*row[:3], float(row[3])), strict=True)) for row in ROWS]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


def delimited(mark: str = ",", names=NAMES, rows=ROWS, after: str = "") -> str:
    quoted = [",".join(names)] + [",".join([row[0], f'"{row[1]}"', *row[2:]]) for row in rows]
    if mark == ",":
        return "".join(line.replace(",", f",{after}").replace(f"one,{after} ", "one, ") + "\n" for line in quoted)
    return "".join(line.replace(",", mark).replace(f"one{mark} ", "one, ") + "\n" for line in quoted)


def run(*arguments: object, stdin: bytes | None = None):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)


def imported(folder: Path, *arguments: object, stdin: bytes | None = None):
    """The outcomes, and what ``--json`` said."""
    result = run("import", *arguments, "--out", folder / "run", "--json", stdin=stdin)
    assert result.exit_code == 0, result.stderr
    return open_run(folder / "run").outcomes(), json.loads(result.stdout)


def refused(folder: Path, *arguments: object, stdin: bytes | None = None) -> str:
    """The one line that says why."""
    result = run("import", *arguments, "--out", folder / "run", stdin=stdin)
    assert result.exit_code == 2, (result.exception, result.stderr)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < 1500
    assert not (folder / "run").exists()
    return lines[0]


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def zstd(content: bytes) -> bytes:
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, "zstd") as stream:
        stream.write(content)
    return buffer.getvalue().to_pybytes()


def parquet(records) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue().to_pybytes()


AS_THEY_ARE = {
    "commas.csv": delimited(),
    "semicolons.csv": delimited(";"),
    "tabs.csv": delimited("\t"),
    "tabs.tsv": delimited("\t"),
    "bars.csv": delimited("|"),
    "text.txt": delimited(";"),
    "spaces.csv": delimited(after=" "),
    "mark.csv": b"\xef\xbb\xbf" + delimited().encode(),
    "crlf.csv": delimited().replace("\n", "\r\n").replace("x\r\ny", "x\ny"),
    "capitals.csv": delimited(names=("Prompt ID", "PROMPT", " Model", "Reward ")),
    "lines.jsonl": LINES,
    "lines.ndjson": LINES,
    "lines.json": LINES,
    "list.json": json.dumps(RECORDS),
    "list.jsonl": json.dumps(RECORDS, indent=2),
    "object.json": json.dumps({"version": 1, "data": RECORDS}),
    "pretty.json": json.dumps({"results": RECORDS}, indent=4),
    "capitals.jsonl": LINES.replace('"prompt_id"', '"Prompt-ID"').replace('"reward"', '"REWARD"'),
    "table.parquet": parquet(RECORDS),
    "misnamed.csv": parquet(RECORDS),
    "lines.jsonl.gz": gzip.compress(LINES.encode()),
    "commas.csv.gz": gzip.compress(delimited().encode()),
    "unnamed.csv": gzip.compress(delimited().encode()),
    "commas.csv.zst": zstd(delimited().encode()),
    "list.json.zst": zstd(json.dumps(RECORDS).encode()),
}


def as_expected(outcomes) -> None:
    assert (outcomes.prompt_ids, outcomes.models) == (("p1", "p2"), ("a", "b"))
    assert outcomes.prompts == ("one, two", "x\ny")
    np.testing.assert_array_equal(outcomes.rewards_PM, [[1, 0.25], [0, 1]])


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_a_table_is_read_as_it_is(tmp_path, name):
    outcomes, said = imported(tmp_path, put(tmp_path, name, AS_THEY_ARE[name]))
    as_expected(outcomes)
    assert (said["format"], said["left_out"]) == (None, {})


@pytest.mark.parametrize("name", ["commas.csv", "list.json", "lines.jsonl", "table.parquet", "lines.jsonl.gz"])
def test_what_stdin_brings_is_read_by_what_it_is(tmp_path, name):
    content = AS_THEY_ARE[name]
    outcomes, said = imported(tmp_path, "-", stdin=content.encode() if isinstance(content, str) else content)
    as_expected(outcomes)
    assert said["source"]["file"] == "stdin"


def test_an_error_in_stdin_names_stdin(tmp_path):
    said = refused(tmp_path, "-", stdin=delimited(rows=[("p", "x", "a", "much")]).encode())
    assert said.startswith("error: stdin: row 1: column 'reward' holds 'much'")


def test_several_files_folders_and_globs_are_one_table(tmp_path):
    put(tmp_path, "logs/a/one.csv", delimited(";", rows=ROWS[:1]))
    put(tmp_path, "logs/two.jsonl", json.dumps(RECORDS[1]))
    put(tmp_path, "logs/.hidden.csv", "not, a table")
    put(tmp_path, "logs/readme.md", "not a table")
    put(tmp_path, "more3.parquet", parquet(RECORDS[2:3]))
    put(tmp_path, "more4.json", json.dumps(RECORDS[3:]))
    logs, more = tmp_path / "logs", tmp_path / "more*.*"
    outcomes, said = imported(tmp_path, logs, more, logs / "two.jsonl")
    as_expected(outcomes)
    assert len(said["source"]["files"]) == 4


def test_a_bad_row_of_several_files_is_named_by_its_own_file_and_row(tmp_path):
    one = put(tmp_path, "one.csv", delimited())
    two = put(tmp_path, "two.csv", delimited(rows=[("p3", "z", "a", "1"), ("p1", "other", "a", "1")]))
    assert f"{two}: row 2 (prompt_id 'p1'): prompt 'other' differs from 'one, two' in row 1" in refused(
        tmp_path, one, two
    )
    three = put(tmp_path, "three.csv", delimited(rows=[("p3", "z", "a", "1"), ("p1", "one, two", "a", "1")]))
    assert f"{three}: row 2 (prompt_id 'p1', model 'a'): a second row" in refused(tmp_path, one, three)


def test_a_stranger_s_names_are_said_with_column(tmp_path):
    renamed = LINES.replace('"prompt"', '"question"').replace('"model"', '"llm"').replace('"reward"', '"score"')
    path = put(tmp_path, "o.jsonl", renamed)
    said = refused(tmp_path, path)
    flags = ["--column", "prompt=question", "--column", "model=llm", "--column", "reward=score"]
    assert " ".join(flags) in said
    as_expected(imported(tmp_path, path, *flags)[0])


def test_a_value_inside_a_record_is_named_with_dots(tmp_path):
    inside = [
        r | {"reward": None, "scores": {"acc": r["reward"]}, "prompt": None, "doc": [{"q": r["prompt"]}]}
        for r in RECORDS
    ]
    path = put(tmp_path, "o.json", json.dumps(inside))
    as_expected(imported(tmp_path, path, "--column", "prompt=doc.0.q", "--column", "reward=scores.acc")[0])


def test_a_column_that_was_named_hides_the_one_of_the_contract(tmp_path):
    path = put(tmp_path, "o.csv", "prompt,model,reward,judge\nx,a,9,0.5\n")
    assert imported(tmp_path, path, "--column", "reward=judge")[0].rewards_PM == 0.5


def test_without_prompt_ids_the_same_text_is_the_same_prompt(tmp_path):
    path = put(tmp_path, "o.csv", "prompt,model,reward\nx,a,1\ny,a,0\nx,b,0\n")
    outcomes, _ = imported(tmp_path, path)
    assert outcomes.prompts == ("x", "y")
    assert outcomes.prompt_ids == imported(tmp_path, path)[0].prompt_ids
    assert len(set(outcomes.prompt_ids)) == 2


BAD_ROWS = [
    '{"prompt_id": "p9", "prompt": "z", "model": "a", "reward": "87%"}',
    '{"prompt_id": "p9", "prompt": "z", "model": "a", "reward": 1e300}',
    '{"prompt_id": "p9", "prompt": "z", "model": "a", "reward": NaN}',
    '{"prompt_id": "p9", "prompt": "z", "model": "a", "reward": Infinity}',
    '{"prompt_id": "p9", "prompt": "z", "model": null, "reward": 1}',
    '{"prompt_id": "p9", "prompt": " ", "model": "a", "reward": 1}',
    '{"prompt_id": "p1", "prompt": "another", "model": "c", "reward": 1}',
    '{"prompt_id": "p9", "prompt": "z", "model": "a", "reward": 1, "output_tokens": -1}',
    '{"prompt_id": "p9", "prompt": 0.5, "model": "a", "reward": 1}',
    '{"prompt_id": "p9", "prompt": "\\ud800", "model": "a", "reward": 1}',
    '{"prompt_id": "p9", "prompt": ',
    "[1]",
    "7",
    "[" * 100_000,
    '{"prompt_id": "p9", "prompt": "z", "model": "a", "reward": ' + "9" * 5000 + "}",
    '{"prompt_id": "p9", "prompt": "z", "model": "a", "reward": [1]}',
]


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_a_bad_row_is_an_error_or_is_left_out_and_counted(tmp_path, bad):
    path = put(tmp_path, "o.jsonl", LINES + bad + "\n")
    said = refused(tmp_path, path)
    assert "row 5" in said or "line 5" in said
    outcomes, counted = imported(tmp_path, path, "--skip-bad-rows")
    as_expected(outcomes)
    assert sum(counted["left_out"].values()) == 1
    assert any("1 row left out" in line for line in counted["warnings"])


@pytest.mark.parametrize("bad", ["p9;z;a", "p9;z;a;1;2", 'p9;z;a;"0,5"', "p9;z;a;much", ";z;a;1"])
def test_a_bad_row_of_delimited_text_is_left_out_and_the_others_keep_their_numbers(tmp_path, bad):
    text = delimited(";", rows=ROWS[:2]) + bad + "\n" + delimited(";", rows=ROWS[2:]).split("\n", 1)[1]
    path = put(tmp_path, "o.csv", text)
    assert "row 3" in refused(tmp_path, path)
    outcomes, counted = imported(tmp_path, path, "--skip-bad-rows")
    as_expected(outcomes)
    assert sum(counted["left_out"].values()) == 1
    path.write_text(text + 'p1;"one, two";a;1\n')
    (tmp_path / "run").rename(tmp_path / "old")
    assert "row 6 (prompt_id 'p1', model 'a'): a second row" in refused(tmp_path, path, "--skip-bad-rows")


def test_a_bad_item_of_a_list_is_left_out_and_counted(tmp_path):
    path = put(tmp_path, "o.json", json.dumps([7, *RECORDS, [1]]))
    assert "record 1 is a JSON int" in refused(tmp_path, path)
    outcomes, counted = imported(tmp_path, path, "--skip-bad-rows")
    as_expected(outcomes)
    assert counted["left_out"] == {"malformed rows": 2}


def test_of_repeated_rows_the_first_is_kept_where_that_is_asked(tmp_path):
    path = put(tmp_path, "o.csv", delimited(rows=[*ROWS, ("p1", "one, two", "a", "0"), ("p1", "one, two", "a", "0.5")]))
    assert "--keep-first" in refused(tmp_path, path)
    outcomes, counted = imported(tmp_path, path, "--keep-first")
    as_expected(outcomes)
    assert list(counted["left_out"].values()) == [2]


CUT = "head... (litellm_truncated skipped 900 chars. Truncation is a DB storage safeguard.) ...tail"
NO_PROMPTS = [
    CUT, f'[{{"role": "user", "content": "{CUT}"}}]', "a... (litellm_truncated 17 chars) ...", "redacted-by-litellm",
    '[{"role": "user", "content": "redacted-by-litellm"}]', "[REDACTED]", "<redacted>", "...", "…", "null", "NaN", "[]",
    "***", "[object Object]", "<truncated due to size exceeding limit>", "attachment://0123abcdef",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_PROMPTS)
def test_what_stands_where_a_prompt_was_is_left_out_and_counted(tmp_path, text):
    record = {"prompt_id": "p9", "prompt": text, "model": "a", "reward": 1}
    path = put(tmp_path, "o.jsonl", LINES + json.dumps(record))
    outcomes, counted = imported(tmp_path, path)
    as_expected(outcomes)
    assert sum(counted["left_out"].values()) == 1
    if "litellm_truncated" in text:
        assert any("MAX_STRING_LENGTH_PROMPT_IN_DB" in line for line in counted["warnings"])
    assert "No usable row is left" in refused(tmp_path / "none", put(tmp_path, "none/p.jsonl", json.dumps(record)))


@pytest.mark.parametrize("text", ["What does [REDACTED] mean?", "none of these", "x", "?", "🙂", "null pointer", "42"])
def test_a_prompt_about_a_placeholder_is_a_prompt(tmp_path, text):
    record = {"prompt_id": "p9", "prompt": text, "model": "a", "reward": 1}
    assert text in imported(tmp_path, put(tmp_path, "o.jsonl", json.dumps(record)))[0].prompts


T = delimited()
REFUSED = {
    "typo.csv": (T.replace("reward", "rewrad", 1), "--column reward=rewrad"),
    "percent.csv": (T.replace("0.25", "25%"), "column 'reward' holds '25%'; expected a number. Write a percentage"),
    "comma.csv": (
        delimited(";").replace("0.25", "0,25").replace(";0\n", ";0.5\n"),
        "row 2: column 'reward' holds '0,25'",
    ),
    "huge.csv": (T.replace("0.25", "1e300"), "row 2 (prompt_id 'p1', model 'b'): reward is 1e+300"),
    "infinite.csv": (T.replace("0.25", "inf"), "row 2 (prompt_id 'p1', model 'b'): reward is inf"),
    "text.csv": (T.replace("0.25", "good"), "row 2: column 'reward' holds 'good'"),
    "utf16.csv": (T.encode("utf-16"), "in UTF-16; save it as UTF-8"),
    "utf16-le.csv": (T.encode("utf-16-le"), "in UTF-16 or UTF-32, it seems"),
    "latin.csv": (T.replace("x\ny", "é").encode("latin-1"), "not UTF-8 near row 3"),
    "binary.csv": (bytes(range(256)) * 40, "binary"),
    "excel.csv": (b"PK\x03\x04" + bytes(200), "ZIP archive, as .xlsx is one"),
    "pickle.csv": (b"\x80\x04\x95" + bytes(20), "pickle"),
    "sqlite.json": (b"SQLite format 3\0" + bytes(100), "SQLite"),
    "empty.csv": (b"", "empty (0 bytes)"),
    "empty.csv.gz": (gzip.compress(b""), "nothing could be decompressed"),
    "cut.csv.gz": (gzip.compress(os.urandom(9000).hex().encode())[:-900], "truncated"),
    "cut.jsonl.gz": (gzip.compress((LINES * 9000).encode())[:-900], "truncated"),
    "cut.json.gz": (gzip.compress(json.dumps(RECORDS * 9000).encode())[:-900], "truncated"),
    "cut.csv.zst": (zstd(os.urandom(9000).hex().encode())[:-900], "truncated"),
    "not.csv.gz": (b"\x1f\x8b" + bytes(90), "truncated"),
    "cut.json": (json.dumps(RECORDS)[:-30], "record 4"),
    "open.json": (json.dumps(RECORDS)[:-1], "expected a `]` at its end"),
    "mixed.json": ("[1, 2]", "record 1 is a JSON int"),
    "deep.json": ("[" * 100_000, "record 1 is not JSON"),
    "deep.jsonl": ('{"a":' * 100_000, "line 1 is not JSON"),
    "none.json": ("[]", "no rows"),
    "several.json": (json.dumps({"a": RECORDS, "b": RECORDS}), "'prompt' is missing"),
    "name.csv": (T + 'p3,x,"b\nc",1\n', "row 5: model is 'b\\nc'"),
    "long-name.csv": (T + f"p3,x,{'m' * 600},1\n", "row 5: model is 'mmm"),
    "excel-line.csv": ("sep=;\n" + delimited(";"), "Delete that line"),
    "both.csv": ("prompt,Prompt,model,reward\nx,y,a,1\n", "'prompt' and 'Prompt' would both be 'prompt'"),
    "cell.csv": (T + 'p3,"' + "x" * (17 << 20) + '",a,1\n', "row 5: prompt has 17,825,792 characters"),
    "quote.csv": (T + 'p3,"' + "x\n" * (9 << 20), "row 5 has a cell of more than 16 Mi characters"),
    "line.csv": ("x" * (65 << 20), "line 1 is longer than 64 Mi characters"),
    "line.jsonl": ("x" * (65 << 20), "line 1 is longer than 64 MiB"),
    "columns.csv": (",".join(f"c{i}" for i in range(20_000)) + "\n" + "1," * 19_999 + "1\n", "19,988 more"),
    "names.csv": ("x" * 100_000 + ",y\n1,2\n", "..."),
    "twice.parquet.gz": (gzip.compress(parquet(RECORDS)), "Decompress"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_one_line_that_says_why(tmp_path, name):
    content, said = REFUSED[name]
    path = put(tmp_path, name, content)
    line = refused(tmp_path, path)
    assert str(path) in line
    assert said in line


def test_a_wide_file_of_thousands_of_columns_is_read_or_refused(tmp_path):
    def wide(size: int) -> str:
        return "prompt," + ",".join(f"m{i}" for i in range(size)) + "\nx," + ",".join("1" * size) + "\n"

    assert len(imported(tmp_path, put(tmp_path, "o.csv", wide(3000)), "--wide")[0].models) == 3000
    (tmp_path / "run").rename(tmp_path / "old")
    assert "5,000 models; expected at most 4,096" in refused(tmp_path, put(tmp_path, "o.csv", wide(5000)), "--wide")
    assert "more than 10,000 columns" in refused(tmp_path, put(tmp_path, "o.csv", wide(10_001)), "--wide")


def test_a_wide_file_s_id_is_no_model(tmp_path):
    path = put(tmp_path, "o.csv", "id,Prompt,a,b\n1,x,0.5,\n2,y,1,0\n")
    assert "--column prompt_id='id'" in refused(tmp_path, path, "--wide")
    outcomes, _ = imported(tmp_path, path, "--wide", "--column", "prompt_id=id")
    assert (outcomes.prompt_ids, outcomes.models) == (("1", "2"), ("a", "b"))


@pytest.mark.parametrize("stated", ["reward", "reward=", "rewrad=score", "=x"])
def test_a_role_that_is_none_is_bad_usage(tmp_path, stated):
    assert run("import", put(tmp_path, "o.csv", T), "--out", tmp_path / "run", "--column", stated).exit_code == 2


def test_a_column_that_is_not_there_is_named_with_what_is(tmp_path):
    said = refused(tmp_path, put(tmp_path, "o.csv", T.replace("reward", "score", 1)), "--column", "reward=scores")
    assert "no column 'scores' (for reward)" in said
    assert "--column reward=score" in said


@pytest.mark.parametrize("argument", ["none.csv", "none*.csv", "empty"])
def test_nothing_there_is_said(tmp_path, argument):
    (tmp_path / "empty").mkdir()
    assert argument in refused(tmp_path, tmp_path / argument)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (("87%", "50 %", "0%", "100%"), "percentages"),
        (("0,87", "0,5", "0", "1"), "decimal commas"),
        (("0,870", "0,500", "0", "1"), "decimal commas"),
        (("87,5%", "50%", "0%", "100%"), "percentages and decimal commas"),
    ],
)
def test_a_column_that_is_written_otherwise_throughout_is_read_and_told(tmp_path, cells, said):
    rows = [(*row[:3], f'"{cell}"') for row, cell in zip(ROWS, cells, strict=True)]
    file = tmp_path / "o.csv"
    file.write_text(delimited(rows=rows))
    outcomes, payload = imported(tmp_path, file)
    assert f"'reward' is read as {said}" in payload["warnings"]
    assert outcomes.rewards_PM.ravel().tolist() == [pytest.approx(0.875 if "87,5" in cells[0] else 0.87), 0.5, 0, 1]


@pytest.mark.parametrize("cells", [("87%", "0.5", "0", "1"), ("1,000", "2,000", "0", "1"), ("0,5", "0.5", "0", "1")])
def test_a_column_that_is_written_otherwise_in_part_is_refused(tmp_path, cells):
    rows = [(*row[:3], f'"{cell}"') for row, cell in zip(ROWS, cells, strict=True)]
    file = tmp_path / "o.csv"
    file.write_text(delimited(rows=rows))
    assert "'reward'" in refused(tmp_path, file)


def test_a_wide_table_says_how_a_text_column_can_be_read(tmp_path):
    file = tmp_path / "wide.csv"
    file.write_text("prompt,topic,a,b\none,math,0.1,0.2\ntwo,law,0.3,0.4\n")
    assert "--column category=" in refused(tmp_path, file, "--wide")
    _, payload = imported(tmp_path, file, "--wide", "--models", "a,b")
    assert any("--column category=topic" in warning for warning in payload["warnings"])
    _, payload = imported(tmp_path, file, "--wide", "--column", "category=topic")
    assert payload["categories"] == {"law": 1, "math": 1}


def test_a_wide_table_in_two_units_is_refused(tmp_path):
    file = tmp_path / "wide.csv"
    file.write_text("prompt,a,b\none,87%,70\ntwo,5%,40\n")
    assert "rewards of a are percentages, and those of b are not" in refused(tmp_path, file, "--wide")


def test_a_name_as_long_as_a_line_breaks_no_table(tmp_path):
    file = tmp_path / "o.csv"
    long = "a-very-long-name/" * 15
    file.write_text(delimited(rows=[(*row[:2], long if row[2] == "a" else "日本語モデル", row[3]) for row in ROWS]))
    result = run("import", file, "--out", tmp_path / "run")
    assert result.exit_code == 0
    table = result.stdout.splitlines()[-3:]
    assert len({columns(line.rpartition("  ")[0]) for line in table}) == 1
    assert max(map(columns, table)) < 100


@pytest.mark.parametrize("flags", [(), ("--skip-bad-rows",)])
def test_a_wide_files_column_of_words_is_offered_as_the_category(tmp_path, flags):
    wide = put(tmp_path, "wide.csv", "prompt,topic,a,b\nx,math,1,0\ny,code,0,1\n")
    said = refused(tmp_path, wide, "--wide", *flags)
    for part in ("topic holds text", "--models a,b", "--column category='topic'"):
        assert part in said
    # One cell that is no number among numbers is a bad row.
    odd = put(tmp_path, "odd.csv", "prompt,a,b\nx,1,0\ny,oops,1\n")
    assert "odd.csv: row 2" in refused(tmp_path, odd, "--wide")
    outcomes, _ = imported(tmp_path, wide, "--wide", "--column", "category=topic")
    assert set(outcomes.categories) == {"math", "code"}
