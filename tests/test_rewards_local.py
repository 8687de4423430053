"""The two reward models of the paper that transformers loads, and any classifier: beside what their cards compute."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from erp_trainer.pool import pool as pools
from erp_trainer.rewards.base import Pair, RewardModel
from erp_trainer.rewards.local import LocalModel
from erp_trainer.rewards.registry import load_reward_model
from litellm_erp.errors import RewardError, SettingsError
from tests import reward_models
from tests.reward_models import PAIRS, TEXT, spec, straight

OPENASSISTANT = "OpenAssistant/reward-model-deberta-v3-large-v2"
GRM = "Ray2333/GRM-Gemma-2B-rewardmodel-ft"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the ids of the real models are folders of tiny ones."""
    root = tmp_path_factory.mktemp("hub")
    reward_models.openassistant(root / OPENASSISTANT)
    reward_models.grm(root / GRM)
    return root


@pytest.fixture(autouse=True)
def _in_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hub)


def rewards(model: RewardModel, pairs: list[Pair] = PAIRS) -> list[float]:
    return [scored.reward for scored in model.score(pairs, lambda n: None)]


def text(pair: Pair) -> str:
    return pair.prompt if isinstance(pair.prompt, str) else pair.prompt[0]["content"]


def openassistant_card(tokenizer: Any, pair: Pair) -> Any:
    return tokenizer(text(pair), pair.response, return_tensors="pt")


def conversation(tokenizer: Any, pair: Pair) -> str:
    messages = [{"role": "user", "content": text(pair)}, {"role": "assistant", "content": pair.response}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False))


def grm_card(tokenizer: Any, pair: Pair) -> Any:
    template = conversation(tokenizer, pair)
    return tokenizer(template, padding="max_length", max_length=400, truncation=True, return_tensors="pt")


def template_alone(tokenizer: Any, pair: Pair) -> Any:
    return tokenizer(conversation(tokenizer, pair), add_special_tokens=False, return_tensors="pt")


def test_openassistant_scores_as_its_card_does(hub: Path) -> None:
    model = load_reward_model(spec("text-pair", model=OPENASSISTANT))
    assert rewards(model) == pytest.approx(straight(hub / OPENASSISTANT, openassistant_card), abs=1e-5)


def test_grm_scores_as_its_card_does_padded_left_and_with_two_bos(hub: Path) -> None:
    model = load_reward_model(spec("chat-template", model=GRM))
    assert rewards(model) == pytest.approx(straight(hub / GRM, grm_card), abs=1e-5)


def test_other_chat_models_get_the_special_tokens_of_their_template_only(hub: Path) -> None:
    model = load_reward_model(spec("chat-template", model=str(hub / GRM)))
    expected = straight(hub / GRM, template_alone)
    assert rewards(model) == pytest.approx(expected, abs=1e-5)
    assert expected != pytest.approx(straight(hub / GRM, grm_card), abs=1e-2)


@pytest.mark.parametrize(("kind", "model_id"), [("text-pair", OPENASSISTANT), ("chat-template", GRM)])
@pytest.mark.parametrize("max_tokens_per_batch", [1, 300, 100_000])
def test_a_reward_does_not_depend_on_its_batch(kind: str, model_id: str, max_tokens_per_batch: int) -> None:
    model = load_reward_model(spec(kind, model=model_id, max_tokens_per_batch=max_tokens_per_batch))
    alone = [rewards(model, [pair])[0] for pair in PAIRS]
    assert rewards(model) == pytest.approx(alone, abs=1e-5)
    assert rewards(model, PAIRS[::-1]) == pytest.approx(alone[::-1], abs=1e-5)


def test_a_model_without_a_padding_token_is_pooled_at_its_last_token(tmp_path: Path) -> None:
    folder = reward_models.grm(tmp_path, pad_token_id=None)
    model = load_reward_model(spec("chat-template", model=str(folder)))
    assert rewards(model) == pytest.approx(straight(folder, template_alone), abs=1e-5)


def test_a_classifier_is_fed_what_its_tokenizer_is_made_for_unless_told(hub: Path) -> None:
    chat = load_reward_model(spec("classifier", model=GRM))
    pair = load_reward_model(spec("classifier", model=GRM, form="pair"))
    assert load_reward_model(spec("classifier", model=OPENASSISTANT)).identity()["form"] == "pair"
    assert chat.identity()["form"] == "chat, special tokens again"
    assert rewards(chat) == pytest.approx(straight(hub / GRM, grm_card), abs=1e-5)
    assert rewards(pair) == pytest.approx(straight(hub / GRM, openassistant_card), abs=1e-5)


def test_a_system_prompt_goes_before_the_first_question_where_a_template_refuses_the_role() -> None:
    model = load_reward_model(spec("chat-template", model=GRM))
    system = Pair([{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT[0]}], TEXT[1])
    assert rewards(model, [system]) == rewards(model, [Pair(f"Be brief.\n\n{TEXT[0]}", TEXT[1])])


def test_a_prompt_that_a_template_refuses_is_named() -> None:
    model = load_reward_model(spec("chat-template", model=GRM))
    two_questions = Pair([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "c")
    with pytest.raises(RewardError, match=r"roles user, user .*must alternate"):
        rewards(model, [two_questions])


def test_what_is_too_long_is_cut_by_the_rule_and_says_so(hub: Path) -> None:
    model = load_reward_model(spec("text-pair", model=OPENASSISTANT, max_tokens=60))
    long = Pair(TEXT[0], TEXT[1] * 9)
    scored = model.score([PAIRS[0], long], lambda n: None)
    assert [s.truncated for s in scored] == [False, True]
    cuts = [Pair(TEXT[0], long.response[:n]) for n in range(len(long.response))]
    assert isinstance(model, LocalModel)
    full = next(cut for cut in reversed(cuts) if len(model.tokenizer(TEXT[0], cut.response)["input_ids"]) <= 60)
    assert scored[1].reward == pytest.approx(straight(hub / OPENASSISTANT, openassistant_card, [full])[0], abs=1e-5)


def test_a_long_conversation_keeps_its_template_whole(hub: Path) -> None:
    model = load_reward_model(spec("chat-template", model=str(hub / GRM), max_tokens=80))
    turns = [{"role": role, "content": TEXT[1]} for role in ("user", "assistant", "user")]
    (scored,) = model.score([Pair(turns, TEXT[1] * 3)], lambda n: None)
    assert scored.truncated
    assert isinstance(model, LocalModel)
    rows, _ = model.rows([Pair(turns, TEXT[1] * 3)])
    shown = model.tokenizer.decode(rows[0]["input_ids"])
    assert len(rows[0]["input_ids"]) <= 80
    assert shown.count("<start_of_turn>") == 4
    assert shown.endswith("<end_of_turn>\n")


def test_a_classifier_with_two_labels_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    folder = reward_models.openassistant(tmp_path, labels=2)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(SettingsError, match="has 2 labels; a reward model is a sequence classifier with one"):
        load_reward_model(spec("text-pair", model=str(folder)))


def test_weights_without_a_head_are_refused_not_made_up(tmp_path: Path) -> None:
    folder = reward_models.openassistant(tmp_path)
    weights = torch.load(folder / "pytorch_model.bin")
    torch.save({k: v for k, v in weights.items() if "classifier" not in k}, folder / "pytorch_model.bin")
    with pytest.raises(SettingsError, match=r"no weights for classifier\.bias"):
        rewards(load_reward_model(spec("text-pair", model=str(folder))))


def test_a_folder_is_looked_for_beside_the_pool_file_and_its_identity_is_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward_models.openassistant(tmp_path / "pools" / "own")
    document = {"prompts": {}, "models": {}, "rewards": [{"kind": "text-pair", "model": "own"}]}
    (tmp_path / "pools" / "pool.yaml").write_text(json.dumps(document))
    monkeypatch.chdir(tmp_path)
    identities = []
    for path in (Path("pools/pool.yaml"), tmp_path / "pools" / "pool.yaml"):
        (named,) = pools.load(path).rewards
        model = load_reward_model(named)
        identities.append(model.identity())
        assert len(rewards(model)) == len(PAIRS)
    assert identities[0] == identities[1]
    assert identities[0]["model"] == "own"


def test_other_weights_under_the_same_name_are_another_identity(tmp_path: Path) -> None:
    folder = reward_models.openassistant(tmp_path)
    before = load_reward_model(spec("text-pair", model=str(folder))).identity()
    weights = torch.load(folder / "pytorch_model.bin")
    torch.save({k: v + 1 for k, v in weights.items()}, folder / "pytorch_model.bin")
    assert load_reward_model(spec("text-pair", model=str(folder))).identity() != before


def test_code_from_the_hub_needs_a_pinned_revision() -> None:
    with pytest.raises(SettingsError, match="revision: with the 40 hex digits"):
        load_reward_model(spec("classifier", model="some/model", trust_remote_code=True, revision="main"))


def test_internlm_code_needs_to_be_trusted_in_words() -> None:
    with pytest.raises(SettingsError, match="say trust_remote_code: true"):
        load_reward_model(spec("internlm", model="internlm/internlm2-7b-reward", via="remote-code"))


def test_internlm_code_gets_the_reward_token_last_whatever_the_batch(tmp_path: Path) -> None:
    folder = reward_models.internlm(tmp_path)
    options = {"model": str(folder), "via": "remote-code", "trust_remote_code": True}
    model = load_reward_model(spec("internlm", **options))

    def with_reward_token(tokenizer: Any, pair: Pair) -> dict[str, torch.Tensor]:
        ids = tokenizer(conversation(tokenizer, pair), add_special_tokens=False)["input_ids"]
        return {"input_ids": torch.tensor([[*ids, 7]])}

    assert rewards(model) == pytest.approx(straight(folder / "grm", with_reward_token), abs=1e-5)


def test_closing_frees_the_weights() -> None:
    model = load_reward_model(spec("text-pair", model=OPENASSISTANT))
    rewards(model)
    model.close()
    assert "model" not in vars(model)
