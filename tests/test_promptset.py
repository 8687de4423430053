"""Prompt sets are written whole, read back as they were, and refuse what is no prompt."""

import pytest

from erp_trainer.prompts.prompt_set import Prompt, fingerprint, messages_of, read_prompt_set, write_prompt_set
from litellm_erp.errors import PromptError

PROMPTS = [
    Prompt("a", "What is 2+2?", "math", "train", "4", ("easy",)),
    Prompt("b", [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Hi\u2028there"}], split="test"),
]


def test_a_set_reads_back_as_it_was_written(tmp_path):
    assert write_prompt_set(PROMPTS, tmp_path) == tmp_path / "prompts.jsonl"
    assert read_prompt_set(tmp_path) == PROMPTS
    assert read_prompt_set(tmp_path / "prompts.jsonl") == PROMPTS


def test_a_prompt_written_as_the_json_of_its_messages_is_messages(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt_id": "b", "prompt": "[{\\"role\\": \\"user\\", \\"content\\": \\"Hi\\"}]"}\n')
    [prompt] = read_prompt_set(file)
    assert prompt.messages == [{"role": "user", "content": "Hi"}]
    assert messages_of("[1, 2]") is None


def test_the_fingerprint_changes_with_text_split_and_place():
    moved = [Prompt("a", "What is 2+2?", "math", "test", "4", ("easy",)), PROMPTS[1]]
    prints = {fingerprint(prompts) for prompts in (PROMPTS, PROMPTS[::-1], moved, PROMPTS[:1])}
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no prompts"),
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: a JSON list"),
        ('{"prompt": "x"}', "prompt_id is None"),
        ('{"prompt_id": "a", "prompt": " "}', "no text in prompt"),
        ('{"prompt_id": "a", "prompt": 3}', "no text in prompt"),
        ('{"prompt_id": "a", "prompt": "x", "split": 1}', "split is 1"),
        ('{"prompt_id": "a", "prompt": "x"}\n{"prompt_id": "a", "prompt": "y"}', "line 2.*second time"),
    ],
)
def test_what_is_no_prompt_is_named_by_its_line(tmp_path, content, said):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(PromptError, match=said):
        read_prompt_set(tmp_path / "p.jsonl")


def test_a_missing_set_says_how_to_make_one(tmp_path):
    with pytest.raises(PromptError, match="erp-train prompts"):
        read_prompt_set(tmp_path)


def test_two_prompts_with_one_id_are_not_written(tmp_path):
    with pytest.raises(PromptError, match="unique"):
        write_prompt_set([PROMPTS[0], PROMPTS[0]], tmp_path)
    assert list(tmp_path.iterdir()) == []
