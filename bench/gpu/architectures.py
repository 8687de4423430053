"""The real models' architectures with random weights, written as folders that the product loads like any other.

Nothing is fetched: sizes are those of the published configurations, and the tokenizer is BERT's uncased word pieces,
which the static embedder ships, with a chat template where the model has one. Its ids are a part of the larger
vocabularies; the matrices have their full size.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litellm_erp.embedding.static import MODEL_DIR, VOCABULARY_FILE

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} </{{ m['role'] }}> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
# In front of the word pieces, so that padding has id 0; the stand-in's reward token is one that no text becomes.
_SPECIAL = ("[PAD]", "[REWARD]", "[CLS]", "[SEP]")
REWARD_TOKEN = _SPECIAL.index("[REWARD]")

# What `--tiny` makes of every size; vocabularies shrink to the tokenizer's.
_TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


@dataclass(frozen=True)
class Architecture:
    """A model to be made.

    Attributes
    ----------
    classes : names in transformers, of the configuration and of the model
    sizes : of the configuration
    chat : its tokenizer has a chat template
    context : tokens at most
    dtype : that the published weights have
    """

    title: str
    classes: tuple[str, str]
    sizes: Mapping[str, Any]
    context: int
    chat: bool = False
    dtype: str = "bfloat16"
    rest: Mapping[str, Any] = field(default_factory=dict)

    def config(self, vocabulary: int, *, tiny: bool) -> Any:
        """The configuration, tiny where asked for."""
        import transformers

        sizes = dict(self.sizes)
        if tiny:
            sizes |= {key: value for key, value in _TINY.items() if key in sizes} | {"vocab_size": vocabulary}
            sizes |= {"num_key_value_heads": 2} if "num_key_value_heads" in sizes else {}
            sizes |= {"head_dim": 16} if "head_dim" in sizes else {}
        context = min(self.context, 128) if tiny else self.context
        made = getattr(transformers, self.classes[0])
        # Drawn so wide that what distinguishes two inputs is not lost on the way through the layers.
        wide = {"initializer_range": sizes["hidden_size"] ** -0.5}
        rest = {**self.rest, "position_buckets": 16} if tiny and "position_buckets" in self.rest else self.rest
        return made(**sizes, **rest, **wide, max_position_embeddings=context, pad_token_id=0)


_BERT = ("BertConfig", "BertModel")
_GEMMA_2B = {
    "vocab_size": 256_000, "hidden_size": 2048, "intermediate_size": 16_384, "num_hidden_layers": 18,
    "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
}  # fmt: skip

DEBERTA = Architecture(
    "DeBERTa-v3-large, one label",
    ("DebertaV2Config", "DebertaV2ForSequenceClassification"),
    {
        "vocab_size": 128_100, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
    context=512,
    dtype="float32",
    rest={
        "relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True,
        "pos_att_type": "p2c|c2p", "max_relative_positions": -1, "type_vocab_size": 0, "position_biased_input": False,
        "num_labels": 1,
    },
)  # fmt: skip
GEMMA_HEAD = Architecture(
    "Gemma 2B, one label",
    ("GemmaConfig", "GemmaForSequenceClassification"),
    _GEMMA_2B,
    context=8192,
    chat=True,
    rest={"num_labels": 1},
)
# InternLM2 is a Llama whose query, key and value lie in one matrix: same sizes, same work.
INTERNLM = Architecture(
    "InternLM2 7B size, value head",
    ("LlamaConfig", "LlamaForCausalLM"),
    {
        "vocab_size": 92_544, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8,
    },
    context=8192,
    chat=True,
    rest={"rope_theta": 1e6},
)  # fmt: skip
GTE_LARGE = Architecture(
    "gte-large",
    _BERT,
    {
        "vocab_size": 30_522, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
    context=512,
    dtype="float16",
)  # fmt: skip
MINILM = Architecture(
    "all-MiniLM-L6",
    _BERT,
    {
        "vocab_size": 30_522, "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
        "num_attention_heads": 12,
    },
    context=256,
    dtype="float32",
)  # fmt: skip
DECODER_2B = Architecture("Gemma 2B", ("GemmaConfig", "GemmaForCausalLM"), _GEMMA_2B, context=8192, chat=True)
DECODER_8B = Architecture(
    "Llama 3.1 8B",
    ("LlamaConfig", "LlamaForCausalLM"),
    {
        "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8,
    },
    context=8192,
    chat=True,
    rest={"rope_theta": 5e5, "tie_word_embeddings": False},
)  # fmt: skip

REMOTE_CODE = '''
from transformers import LlamaConfig, LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast
from torch import nn


class ValueHeadConfig(LlamaConfig):
    model_type = "value_head_llama"


class ValueHeadModel(LlamaPreTrainedModel):
    """The value head at the last token of a row, which is the reward token: rows are padded on the left."""

    config_class = ValueHeadConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.v_head = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_ids, attention_mask):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)[0]
        return SequenceClassifierOutputWithPast(logits=self.v_head(hidden[:, -1]))
'''


def write(architecture: Architecture, folder: Path, device: str, *, tiny: bool) -> None:
    """Write configuration, tokenizer and random weights of a model of transformers."""
    tokenizer = _save_tokenizer(architecture, folder, tiny=tiny)
    config = architecture.config(len(tokenizer), tiny=tiny)
    _save_random(lambda: _made(architecture.classes[1], config), folder, device, architecture.dtype)


def write_embedder(architecture: Architecture, folder: Path, device: str, *, tiny: bool) -> None:
    """The same, with sentence-transformers' mean pooling and normalisation behind it."""
    write(architecture, folder, device, tiny=tiny)
    tokens = min(architecture.context, 128) if tiny else architecture.context
    hidden = _TINY["hidden_size"] if tiny else architecture.sizes["hidden_size"]
    pooling = {"word_embedding_dimension": hidden, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    described = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (path, name) in enumerate(modules)
    ]
    for path, content in (
        ("modules.json", described),
        ("1_Pooling/config.json", pooling),
        ("sentence_bert_config.json", {"max_seq_length": tokens, "do_lower_case": False}),
    ):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    (folder / "2_Normalize").mkdir(exist_ok=True)


def write_internlm(folder: Path, device: str, repository: Path | None, *, tiny: bool) -> None:
    """InternLM2-Reward, loaded as code of its own folder.

    Parameters
    ----------
    repository : the real one's files, weights not needed; None: the stand-in of the same sizes
    """
    from transformers import AutoConfig, AutoModel

    if repository is not None:
        shutil.copytree(repository, folder, ignore=shutil.ignore_patterns("*.safetensors*", "*.bin*", ".git"))
        config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    else:
        tokenizer = _save_tokenizer(INTERNLM, folder, tiny=tiny)
        made = INTERNLM.config(len(tokenizer), tiny=tiny).to_dict()
        made |= {
            "model_type": "value_head_llama", "architectures": ["ValueHeadModel"], "reward_token_id": REWARD_TOKEN,
            "auto_map": {"AutoConfig": "modeling_value_head.ValueHeadConfig",
                         "AutoModel": "modeling_value_head.ValueHeadModel"},
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(made))
        (folder / "modeling_value_head.py").write_text(REMOTE_CODE)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    described = (folder / "config.json").read_text()
    _save_random(lambda: AutoModel.from_config(config, trust_remote_code=True), folder, device, INTERNLM.dtype)
    # Saving may rewrite where its code lies.
    (folder / "config.json").write_text(described)


def _made(name: str, config: Any) -> Any:
    import transformers

    return getattr(transformers, name)(config)


def _save_random(make: Callable[[], Any], folder: Path, device: str, dtype: str) -> None:
    """Weights are drawn where they are drawn fast."""
    import torch

    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = make()
    finally:
        torch.set_default_dtype(usual)
    model.save_pretrained(folder)


def _save_tokenizer(architecture: Architecture, folder: Path, *, tiny: bool) -> Any:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    from litellm_erp.embedding.wordpiece import reference_tokenizer

    pieces = (MODEL_DIR / VOCABULARY_FILE).read_text(encoding="utf-8").split("\n")[:-1]
    vocabulary = [*_SPECIAL, *pieces]
    words = reference_tokenizer(vocabulary)
    ids = {name: vocabulary.index(name) for name in ("[CLS]", "[SEP]")}
    if not architecture.chat:
        words.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=list(ids.items())
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        eos_token="[SEP]", model_max_length=min(architecture.context, 128) if tiny else architecture.context,
        chat_template=CHAT if architecture.chat else None,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return tokenizer
