"""Files nobody made on purpose: whatever stands in them, it is outcomes or one error that names the file."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erp_trainer.outcomes.importing import ImportOptions, import_outcomes
from erp_trainer.outcomes.table import CONTRACT_COLUMNS
from erp_trainer.prompts.sources import gather, source_spec
from litellm_erp.errors import ErpError, OutcomesError

RECORDS = [
    {"prompt_id": f"p{p}", "prompt": f"text, {p}", "model": m, "reward": p / 3, "tags": ["x", "y"], "split": "train"}
    for p in range(3)
    for m in ("a", "b")
]
CSV = "prompt_id,prompt,model,reward\n" + "".join(f'p{p},"text, {p}",{m},{p}\n' for p in range(3) for m in "ab")


def parquet() -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(RECORDS), buffer)
    return buffer.getvalue().to_pybytes()


WHOLE = {
    "o.csv": CSV.encode(),
    "o.tsv": CSV.replace(",", "\t").encode(),
    "o.jsonl": "".join(json.dumps(record) + "\n" for record in RECORDS).encode(),
    "o.json": json.dumps(RECORDS).encode(),
    "o.parquet": parquet(),
    "o.csv.gz": gzip.compress(CSV.encode()),
}
# Bytes that mean something to one of the readers.
TELLING = st.one_of(
    st.sampled_from([bytes([byte]) for byte in b"\"',;\t|\n\r\0\xff\xc3{[]} %"]),
    st.sampled_from([b"\xef\xbb\xbf", b"null", b"NaN", b"1e999", b"-1e300", b"\\ud800", b"9" * 400, b"[" * 3000]),
    st.sampled_from([b"PAR1", b"\x1f\x8b"]),
)
LAX = ImportOptions(skip_bad_rows=True, keep_first=True)
few = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_or_refused(path: Path, options: ImportOptions) -> None:
    try:
        outcomes = import_outcomes([path], options).outcomes
    except OutcomesError as exc:
        message = str(exc)
        message.encode()
        assert str(path) in message
        assert len(message) < 2500
        return
    assert outcomes.prompts
    assert outcomes.models
    assert np.isfinite(outcomes.rewards_PM[outcomes.n_samples_PM > 0]).all()


@pytest.mark.parametrize("name", WHOLE)
@given(data=st.data())
@few
def test_a_file_with_bytes_changed_is_read_or_refused(tmp_path, name, data):
    content = bytearray(WHOLE[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        what = data.draw(st.one_of(TELLING, st.binary(max_size=4)))
        content[at : at + data.draw(st.integers(0, 12))] = what
    path = tmp_path / name
    path.write_bytes(content)
    read_or_refused(path, data.draw(st.sampled_from([ImportOptions(), LAX, ImportOptions(wide=True)])))


NUMBERS = st.one_of(st.floats(), st.integers(), st.booleans(), st.sampled_from([1e300, 10**400, -0.0, 1e15, 1e16]))
ODD = st.sampled_from(["\ud800", "87%", "0,5", "[1", "[]", "...", "train"])
VALUES = st.recursive(
    st.one_of(st.none(), NUMBERS, st.text(max_size=6), ODD),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=6,
)
KEYS = [*CONTRACT_COLUMNS, "Prompt", "REWARD", "other"]
OPTIONS = st.sampled_from([ImportOptions(), LAX, ImportOptions(wide=True), ImportOptions(columns={"reward": "other"})])


@given(
    records=st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), max_size=4),
    whole=st.booleans(),
    options=st.sampled_from(
        [ImportOptions(), LAX, ImportOptions(wide=True), ImportOptions(columns={"reward": "other"})]
    ),
)
@settings(few, max_examples=300)
def test_records_of_any_values_are_read_or_refused(tmp_path, records, whole, options):
    good = [{"prompt_id": "g", "prompt": "good", "model": m, "reward": 0.5} for m in "ab"]
    path = tmp_path / "o.json"
    rows = [*good, *records]
    path.write_text(json.dumps(rows) if whole else "\n".join(map(json.dumps, rows)))
    read_or_refused(path, options)


@given(
    names=st.lists(st.sampled_from([*KEYS, "", " prompt ", "a", "b", 'q"']), min_size=1, max_size=6),
    cells=st.lists(st.lists(st.one_of(st.text(max_size=5), NUMBERS.map(str)), max_size=6), max_size=4),
    mark=st.sampled_from([",", ";", "\t", "|", ", "]),
    options=OPTIONS,
)
@settings(few, max_examples=300)
def test_any_delimited_text_is_read_or_refused(tmp_path, names, cells, mark, options):
    path = tmp_path / "o.csv"
    path.write_bytes("\n".join(mark.join(row) for row in [names, *cells]).encode("utf-8", "surrogatepass"))
    read_or_refused(path, options)


@given(content=st.one_of(st.binary(max_size=60), st.lists(VALUES, max_size=3).map(lambda v: json.dumps(v).encode())))
@settings(few, max_examples=150)
@pytest.mark.parametrize("source", [{"source": "o.jsonl"}, {"source": "litellm-log", "path": "o.jsonl"}])
def test_any_file_of_prompts_is_read_or_refused(tmp_path, content, source):
    path = tmp_path / "o.jsonl"
    path.write_bytes(content)
    message = str(path)
    try:
        assert gather(source_spec(source, tmp_path)).prompts
    except ErpError as exc:
        message = str(exc)
    assert str(path) in message
