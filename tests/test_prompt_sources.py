"""Every source gives clean, split prompts, and what it leaves out is counted."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from litellm.proxy.spend_tracking.spend_tracking_utils import _sanitize_request_body_for_spend_logs_payload

from erp_trainer.cli import cli
from erp_trainer.prompts.duplicates import near_duplicate_groups, split_by_share
from erp_trainer.prompts.perfectblend import CATEGORIES, category_of
from erp_trainer.prompts.prompt_set import read_prompt_set
from erp_trainer.prompts.sources import gather, source_spec
from litellm_erp.errors import ErpError, PromptError

datasets = pytest.importorskip("datasets")

MATH = "Solve the following math problem step-by-step.\nSimplify your answer as much as possible.\n"
CODE = "Write Python code to solve the task:\n"
LOGIC = "Answer the following multiple-choice question.\n"


def from_section(base, **section):
    return gather(source_spec(section, base))


def sentence(seed, words=12):
    rng = np.random.default_rng(seed)
    return " ".join(f"w{rng.integers(5000)}" for _ in range(words))


@pytest.fixture(scope="module")
def perfectblend(tmp_path_factory):
    """The data set's own schema: conversations of {from, value}, and source."""
    sources = [name for names in CATEGORIES.values() for name in names if name != "UltraInteract_sft"]
    rows = [(f"org/{name}", sentence(1000 * s + i)) for s, name in enumerate(sources) for i in range(12)]
    rows += [
        ("openbmb/UltraInteract_sft", opening + sentence(90_000 + 100 * k + i, 30))
        for k, opening in enumerate((MATH, CODE, LOGIC))
        for i in range(12)
    ]
    rows += rows[:5]
    rows.append(("org/elsewhere", "of no category"))
    turns = [
        [{"from": "system", "value": "s"}, {"from": "human", "value": text}, {"from": "gpt", "value": "an answer"},
         {"from": "human", "value": "and then?"}]
        for _, text in rows
    ]  # fmt: skip
    turns.append([{"from": "gpt", "value": "nobody asked"}])
    table = datasets.Dataset.from_dict({"conversations": turns, "source": [s for s, _ in rows] + ["org/MetaMathQA"]})
    path = tmp_path_factory.mktemp("hub") / "open-perfectblend"
    table.save_to_disk(str(path))
    return path


def test_perfectblend_draws_the_same_number_of_first_user_turns_per_category(perfectblend, tmp_path):
    found = from_section(tmp_path, source="open-perfectblend", path=str(perfectblend), per_category=10)
    assert Counter(prompt.category for prompt in found.prompts) == dict.fromkeys(CATEGORIES, 10)
    assert not any("an answer" in prompt.cell or "then?" in prompt.cell for prompt in found.prompts)
    by_half = Counter((prompt.category, prompt.split) for prompt in found.prompts)
    assert set(by_half.values()) == {5}


def test_perfectblend_is_the_same_for_a_seed_and_another_for_another(perfectblend, tmp_path):
    def drawn(seed):
        section = {"source": "open-perfectblend", "path": str(perfectblend), "per_category": 10, "seed": seed}
        return from_section(tmp_path, **section).prompts

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_perfectblend_counts_what_it_leaves_out(perfectblend, tmp_path):
    found = from_section(tmp_path, source="open-perfectblend", path=str(perfectblend))
    assert found.counts["without_text"] == 1
    assert found.counts["repeated"] == 5
    assert found.counts["uncategorised"] == 12
    assert {"of no category"}.isdisjoint(prompt.cell for prompt in found.prompts)


@pytest.mark.parametrize(
    ("text", "task", "category"),
    [
        (MATH, None, "math"),
        ("Tool available:\n[1] Python interpreter\n" + MATH, None, "math"),
        (CODE, None, "code"),
        (LOGIC, None, None),
        ("anything", "Math_PoT", "math"),
        ("anything", "Coding", "code"),
        (MATH, "Logic", None),
    ],
)
def test_rows_of_the_mixed_source_are_told_apart_by_task_or_opening_words(text, task, category):
    assert category_of("openbmb/UltraInteract_sft", text, task) == category


def test_another_data_set_is_read_by_its_column(tmp_path):
    table = datasets.Dataset.from_dict({"question": ["one?", "two?", "one?"], "answer": [1.0, 2.0, 1.0]})
    table.save_to_disk(str(tmp_path / "qa"))
    found = from_section(tmp_path, dataset="qa", column="question", reference_column="answer")
    assert [(p.cell, p.reference) for p in found.prompts] == [("one?", "1"), ("two?", "2")]
    assert found.counts["repeated"] == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_local_file_needs_nothing_but_prompts(tmp_path, suffix):
    path = tmp_path / f"questions{suffix}"
    rows = [{"prompt": "one?"}, {"prompt": "two?"}]
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == ".csv":
        path.write_text("prompt\none?\ntwo?\n")
    else:
        datasets.Dataset.from_list(rows).to_parquet(str(path))
    prompts = from_section(tmp_path, source=path.name).prompts
    assert [prompt.cell for prompt in prompts] == ["one?", "two?"]
    assert len({prompt.prompt_id for prompt in prompts}) == 2
    assert {prompt.split for prompt in prompts} == {"train", "test"}


def test_an_outcomes_table_gives_each_of_its_prompts_once_with_its_split(tmp_path):
    cells = {"split": "test", "category": "c", "tags": ["x"], "reward": 1.0}
    rows = [{"prompt_id": i, "prompt": f"text {i}", "model": m, **cells} for i in "ab" for m in "mn"]
    (tmp_path / "o.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = from_section(tmp_path, source="o.jsonl").prompts
    assert [(p.prompt_id, p.split, p.category, p.tags) for p in prompts] == [
        ("a", "test", "c", ("x",)),
        ("b", "test", "c", ("x",)),
    ]


LOG = [
    {"request_id": "1", "api_key": "sk-hash", "user": "ann@example.com", "metadata": {"user_api_key_alias": "ann"},
     "messages": [{"role": "system", "content": "You are ACME's bot"}, {"role": "user", "content": "first question"},
                  {"role": "assistant", "content": "an answer"}, {"role": "user", "content": [
                      {"type": "text", "text": "second question"}, {"type": "image_url", "image_url": {"url": "u"}}]}]},
    {"messages": "{}", "proxy_server_request": '{"messages": [{"role": "user", "content": "in the request"}]}',
     "response": {"choices": [{"message": {"content": "an answer"}}]}},
    {"messages": json.dumps([{"role": "user", "content": "as text"}])},
    {"messages": [], "proxy_server_request": {"body": {"input": "to responses"}}},
    {"messages": [{"role": "assistant", "content": "an answer"}]},
]  # fmt: skip


def test_what_litellm_cut_or_hid_is_no_prompt_and_is_counted(tmp_path):
    asked = {"messages": [{"role": "user", "content": "long " * 1000}]}
    cut = _sanitize_request_body_for_spend_logs_payload(asked)
    assert "long" in cut["messages"][0]["content"]
    hidden = {"messages": [{"role": role, "content": "redacted-by-litellm"} for role in ("system", "user", "user")]}
    kept = {"proxy_server_request": json.dumps({"messages": [{"role": "user", "content": "a question"}]})}
    log = [cut, {"proxy_server_request": json.dumps(cut)}, {"messages": json.dumps(hidden["messages"])}, hidden, kept]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    found = from_section(tmp_path, source="litellm-log", path="log.jsonl")
    assert [prompt.cell for prompt in found.prompts] == ["a question"]
    assert (found.counts["cut_by_the_log"], found.counts["placeholders"]) == (2, 2)


def test_a_compressed_log_and_one_record_alone_are_read(tmp_path):
    record = {"messages": [{"role": "user", "content": "q"}], "tools": [{"type": "function"}]}
    (tmp_path / "log.json.gz").write_bytes(gzip.compress(json.dumps(record, indent=1).encode()))
    assert [p.cell for p in from_section(tmp_path, source="litellm-log", path="log.json.gz").prompts] == ["q"]


@pytest.mark.parametrize(
    "content", ["[", '{"a":', "7", "[7]", "[" * 100_000, b"\xff\xfe", b"\x1f\x8b\x00", '{"a": 1}\n{']
)
def test_a_broken_log_is_one_clear_error(tmp_path, content):
    (tmp_path / "log.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(PromptError, match=r"log\.json"):
        from_section(tmp_path, source="litellm-log", path="log.json")


@pytest.mark.parametrize("form", ["lines", "list", "page"])
def test_of_a_request_log_only_user_text_is_kept(tmp_path, form):
    text = "\n".join(map(json.dumps, LOG)) if form == "lines" else json.dumps({"data": LOG} if form == "page" else LOG)
    (tmp_path / "log.json").write_text(text)
    found = from_section(tmp_path, source="litellm-log", path="log.json")
    assert [prompt.cell for prompt in found.prompts] == [
        "first question\n\nsecond question",
        "in the request",
        "as text",
        "to responses",
    ]
    assert found.counts["without_text"] == 1
    kept = json.dumps([prompt.to_json() for prompt in found.prompts])
    assert not any(secret in kept for secret in ("ACME", "ann", "sk-hash", "answer"))


def test_near_duplicates_are_grouped_and_different_tasks_are_not():
    base = sentence(1, 40).split()
    changed = " ".join([*base[:20], "other", *base[21:]])
    texts = [" ".join(base), changed.upper() + "!", MATH + sentence(2, 20), MATH + sentence(3, 20), "hi", "Hi!", "ho"]
    assert near_duplicate_groups(texts).tolist() == [0, 0, 1, 2, 3, 3, 4]


def test_near_duplicates_stay_on_one_side_whatever_the_seed():
    groups = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6])
    for seed in range(20):
        splits = split_by_share(groups, ["c"] * 10, seed)
        assert splits.count("train") == 5
        assert len({*splits[:3]}) == len({*splits[3:5]}) == 1


def test_a_split_that_leaks_is_counted_and_kept(tmp_path):
    text = sentence(4, 30)
    (tmp_path / "p.jsonl").write_text(
        "".join(json.dumps({"prompt": t, "split": s}) + "\n" for t, s in ((text, "train"), (text + " more", "test")))
    )
    found = from_section(tmp_path, source="p.jsonl")
    assert (found.counts["leaking"], [p.split for p in found.prompts]) == (1, ["train", "test"])


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, "either source"),
        ({"source": "x.csv", "dataset": "a/b"}, "either source"),
        ({"source": "x.csv", "colour": 1}, "colour"),
        ({"source": "x.csv", "limit": 0}, "limit"),
        ({"source": "x.csv", "test_share": 1}, "test_share"),
        ({"source": "x.csv", "test_share": 0.0}, "test_share"),
        ({"source": "x.csv"}, "does not exist"),
        ({"source": "x.xlsx"}, "suffix"),
        ({"source": "litellm-log"}, "needs path"),
        ({"source": "litellm-log", "path": "x.json"}, "cannot be read"),
    ],
)
def test_a_bad_source_is_one_clear_error(tmp_path, section, said):
    with pytest.raises(ErpError, match=said):
        from_section(tmp_path, **section)


def test_one_id_with_two_texts_is_an_error(tmp_path):
    (tmp_path / "p.csv").write_text("prompt_id,prompt\na,x\na,y\n")
    with pytest.raises(PromptError, match="row 2"):
        from_section(tmp_path, source="p.csv")


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def pool_file(tmp_path, **prompts):
    document = {
        "run": "run", "bundle": "bundle", "prompts": prompts, "models": {"m": {"model": "m"}},
        "rewards": [{"kind": "exact"}],
    }  # fmt: skip
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(document))
    return tmp_path / "pool.yaml"


def test_the_command_writes_the_prompts_of_a_run_and_keeps_them_when_run_again(tmp_path):
    (tmp_path / "q.csv").write_text("prompt\n" + "\n".join(f"question {i}" for i in range(8)))
    pool = pool_file(tmp_path, source="q.csv", limit=6)
    first = run("prompts", pool, "--json")
    assert json.loads(first.stdout)["splits"] == {"test": 3, "train": 3}
    (tmp_path / "q.csv").unlink()
    assert run("prompts", pool, "--json").stdout == first.stdout
    assert len(read_prompt_set(tmp_path / "run")) == 6


def test_the_command_refuses_to_mix_two_sources_in_one_run(tmp_path):
    (tmp_path / "q.csv").write_text("prompt\none\ntwo\n")
    run("prompts", pool_file(tmp_path, source="q.csv"))
    result = run("prompts", pool_file(tmp_path, source="q.csv", seed=1))
    assert (result.exit_code, "--force" in result.stderr) == (2, True)
    assert run("prompts", tmp_path / "pool.yaml", "--force").exit_code == 0


def test_the_command_writes_a_file_of_its_own(tmp_path):
    (tmp_path / "q.csv").write_text("question\none\ntwo\n")
    arguments = ("prompts", "--source", tmp_path / "q.csv", "--column", "question", "--out", tmp_path / "p.jsonl")
    assert run(*arguments).exit_code == 0
    assert [prompt.cell for prompt in read_prompt_set(tmp_path / "p.jsonl")] == ["one", "two"]
    assert run(*arguments).exit_code == 2


def test_a_section_may_say_what_share_goes_to_test(tmp_path):
    (tmp_path / "q.csv").write_text("prompt\n" + "".join(f"{sentence(i)}\n" for i in range(100)))
    found = from_section(tmp_path, source="q.csv", test_share=0.2)
    assert [prompt.split for prompt in found.prompts].count("test") == 20
