"""Every way to break contract 1 is one error that names the file and the place."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erp_trainer.outcomes.read import read_outcomes
from litellm_erp.errors import OutcomesError

LONG = "prompt_id,prompt,model,reward"
GOOD = "p1,one,a,1\n"


def error(path: Path, **options: object) -> str:
    with pytest.raises(OutcomesError) as caught:
        read_outcomes(path, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


LONG_CASES = {
    "missing prompt": ("prompt_id,model,reward\np1,a,1\n", ["'prompt' is missing"]),
    "missing model": ("prompt_id,prompt,reward\np1,one,1\n", ["'model' is missing", "--wide"]),
    "missing reward": ("prompt_id,prompt,model\np1,one,a\n", ["'reward' is missing", "--wide"]),
    "NaN reward": (f"{LONG}\n{GOOD}p2,two,b,nan\n", ["row 2", "'p2'", "'b'", "NaN"]),
    "inf reward": (f"{LONG}\n{GOOD}p2,two,b,-inf\n", ["row 2", "'p2'", "'b'", "-inf"]),
    "empty reward": (f"{LONG}\n{GOOD}p2,two,b,\n", ["row 2", "'p2'", "'b'", "empty"]),
    "reward is text": (f"{LONG}\n{GOOD}p2,two,b,good\n", ["row 2", "'reward'", "'good'"]),
    "duplicate key": (f"{LONG}\n{GOOD}p2,two,a,1\n{GOOD}", ["row 3", "'p1'", "'a'", "row 1"]),
    "duplicate sample": (f"{LONG},sample\np1,one,a,1,0\np1,one,a,2,0\n", ["row 2", "'p1'", "row 1"]),
    "empty sample": (f"{LONG},sample\np1,one,a,1,0\np1,one,b,2,\n", ["row 2", "'b'", "sample is empty"]),
    "samples of means": (f"{LONG},sample,n_samples\np1,one,a,1,0,4\n", ["row 1", "n_samples"]),
    "two prompt texts": (f"{LONG}\n{GOOD}p1,other,b,1\n", ["row 2", "'p1'", "'other'", "'one'", "row 1"]),
    "two splits": (f"{LONG},split\np1,one,a,1,train\np1,one,b,1,test\n", ["row 2", "'p1'", "'test'", "'train'"]),
    "two categories": (f"{LONG},category\np1,one,a,1,x\np1,one,b,1,y\n", ["row 2", "'p1'", "category"]),
    "empty prompt_id": (f"{LONG}\n{GOOD},two,a,1\n", ["row 2", "prompt_id is empty"]),
    "empty prompt": (f"{LONG}\n{GOOD}p2, ,a,1\n", ["row 2", "prompt is empty"]),
    "empty model": (f"{LONG}\n{GOOD}p2,two,,1\n", ["row 2", "model is empty"]),
    "negative tokens": (f"{LONG},output_tokens\np1,one,a,1,-3\n", ["row 1", "'p1'", "output_tokens is -3"]),
    "negative cost": (f"{LONG},cost_usd\np1,one,a,1,-0.5\n", ["row 1", "'a'", "cost_usd is -0.5"]),
    "self-check above 1": (f"{LONG},self_check\np1,one,a,1,1.5\n", ["row 1", "self_check is 1.5", "from 0 to 1"]),
    "no samples": (f"{LONG},n_samples\np1,one,a,1,0\n", ["row 1", "n_samples is 0", "at least 1"]),
    "half a sample": (f"{LONG},n_samples\np1,one,a,1,1.5\n", ["row 1", "n_samples is 1.5", "whole"]),
    "two reward models": (f"{LONG},reward_model\np1,one,a,1,x\np1,one,a,1,y\n", ["x, y", "--reward-model"]),
    "broken tags": (f"{LONG},tags\np1,one,a,1,[1\n", ["row 1", "tags", "'[1'"]),
    "ragged": (f"{LONG}\n{GOOD}p2,two,a\n", ["row 2", "3 cells", "expected 4"]),
    "unclosed quote": (f'{LONG}\n{GOOD}p2,"two,a,1\n', ["row 2", "quote"]),
    "column twice": (f"{LONG},reward\np1,one,a,1,1\n", ["'reward'", "twice"]),
    "header only": (f"{LONG}\n", ["no rows"]),
    "empty file": ("", ["empty (0 bytes)"]),
    "header not UTF-8": (b"prompt_id,prompt,\xe9\n", ["header", "not UTF-8"]),
    "not UTF-8": (f"{LONG}\n".encode() + b"p1,caf\xe9,a,1\n", ["not UTF-8", "0xe9"]),
}


@pytest.mark.parametrize("case", LONG_CASES)
def test_a_bad_long_csv_is_one_clear_error(tmp_path, case):
    content, named = LONG_CASES[case]
    message = error(file(tmp_path, "o.csv", content))
    assert [part for part in named if part not in message] == []


WIDE_CASES = {
    "nan written out": ("prompt_id,prompt,a,b\np,x,1,1\nq,y,nan,1\n", ["row 2", "'q'", "'a'", "NaN"]),
    "inf": ("prompt_id,prompt,a\np,x,inf\n", ["row 1", "'p'", "'a'", "inf"]),
    "text column": ("prompt_id,prompt,metric,a\np,x,f1,1\n", ["metric holds text", "--models a", "category='metric'"]),
    "no outcomes of a model": ("prompt_id,prompt,a,b\np,x,1,\n", ["no usable rows", "'b'"]),
    "missing prompt": ("prompt_id,a\nx,1\n", ["'prompt' is missing"]),
    "a prompt twice": ("prompt_id,prompt,a\np,x,1\np,x,2\n", ["row 2", "'p'", "'a'", "row 1"]),
    "a long table": (f"{LONG}\n{GOOD}", ["'model'", "Leave out --wide"]),
    "a cost for all models": ("prompt_id,prompt,a,cost_usd\np,x,1,2\n", ["'cost_usd'", "one row per model"]),
    "a nameless column": (",prompt_id,prompt,a\n0,p,x,1\n", ["column ''", "index", "--models a,b"]),
    "an index of pandas": ("Unnamed: 0,prompt_id,prompt,a\n0,p,x,1\n", ["'Unnamed: 0'", "index"]),
    "no models": ("prompt_id,prompt\np,x\n", ["no model columns"]),
}


@pytest.mark.parametrize("case", WIDE_CASES)
def test_a_bad_wide_csv_is_one_clear_error(tmp_path, case):
    content, named = WIDE_CASES[case]
    message = error(file(tmp_path, "o.csv", content), wide=True)
    assert [part for part in named if part not in message] == []


JSONL_CASES = {
    "malformed": ('{"prompt_id": "p"}\n{"prompt_id": \n', ["line 2", "not JSON"]),
    "not an object": ("[1, 2]\n", ["record 1", "int"]),
    "not UTF-8": (b'{"prompt_id": "p"}\n{"prompt_id": "\xff"}\n', ["line 2", "not UTF-8"]),
    "lone surrogate": ('{"prompt_id": "p", "prompt": "\\ud800"}\n', ["line 1", "prompt", "surrogate"]),
    "number as id": ('{"prompt_id": 1.5}\n', ["line 1", "prompt_id", "1.5"]),
    "NaN": ('{"prompt_id": "p", "prompt": "x", "model": "a", "reward": NaN}\n', ["row 1", "'p'", "'a'", "NaN"]),
    "list as reward": ('{"prompt_id": "p", "prompt": "x", "model": "a", "reward": [1]}\n', ["row 1", "'[1]'"]),
}


@pytest.mark.parametrize("case", JSONL_CASES)
def test_a_bad_jsonl_is_one_clear_error(tmp_path, case):
    content, named = JSONL_CASES[case]
    message = error(file(tmp_path, "o.jsonl", content))
    assert [part for part in named if part not in message] == []


def good_parquet(path: Path, **columns: object) -> Path:
    table = {"prompt_id": ["p", "q"], "prompt": ["x", "y"], "model": ["a", "a"], "reward": [1.0, 2.0], **columns}
    pq.write_table(pa.table(table), path)
    return path


@pytest.mark.parametrize("size", [3, 200, -5])
def test_a_truncated_parquet_is_one_clear_error(tmp_path, size):
    path = good_parquet(tmp_path / "o.parquet")
    path.write_bytes(path.read_bytes()[:size])
    assert "truncated" in error(path)


def test_damaged_parquet_pages_are_one_clear_error(tmp_path):
    path = good_parquet(tmp_path / "o.parquet")
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)
    path.write_bytes(content)
    assert "not a readable .parquet file" in error(path)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"reward": [1.0, np.nan]}, ["row 2", "'q'", "'a'", "NaN"]),
        ({"reward": [1.0, None]}, ["row 2", "'q'", "'a'", "empty"]),
        ({"prompt_id": [1.5, 2.0]}, ["'prompt_id'", "double", "expected text"]),
        ({"reward": [[1.0], [2.0]]}, ["'reward'", "list", "expected numbers"]),
        ({"model": ["a", None]}, ["row 2", "model is empty"]),
        ({"model": pa.array([b"a", b"\xff"]).cast(pa.string(), safe=False)}, ["'model'", "not UTF-8"]),
    ],
)
def test_a_bad_parquet_cell_is_one_clear_error(tmp_path, columns, named):
    message = error(good_parquet(tmp_path / "o.parquet", **columns))
    assert [part for part in named if part not in message] == []


@pytest.mark.parametrize("name", ["o.xlsx", "o", "o.xml.gz"])
def test_an_unknown_suffix_says_which_are_known(tmp_path, name):
    assert ".parquet, .csv or .jsonl" in error(file(tmp_path, name, "x"))


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    assert "does not exist" in error(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder" in error(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"models": ["a", "zz"]}, ["no usable rows", "'zz'", "found a, b"]),
        ({"reward_model": "rm3"}, ["'rm3'", "rm1, rm2"]),
        ({"reward_model": "rm2"}, ["no usable rows", "'b'", "'rm2'"]),
    ],
)
def test_asking_for_what_is_not_there_lists_what_is(tmp_path, options, named):
    rows = "p,x,a,1,rm1\np,x,a,1,rm2\np,x,b,1,rm1\n"
    message = error(file(tmp_path, "o.csv", f"{LONG},reward_model\n{rows}"), **options)
    assert [part for part in named if part not in message] == []


def test_a_missing_model_column_lists_the_columns(tmp_path):
    path = file(tmp_path, "o.csv", "prompt_id,prompt,a\np,x,1\n")
    message = error(path, wide=True, models=["b"])
    assert "'b' is missing" in message
    assert "prompt_id, prompt, a" in message
