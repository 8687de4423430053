"""IO. What the live demo is made of: members, questions, a pool file, a proxy config, a tiny reward model.

The third member is not in the first pool file, but in the proxy's config from the start, without a probe: a model is
deployed first and learned about later.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from demo.deployments import MASTER_KEY, deployment, router_settings
from demo.live.questions import RIGHT, Question

GROUP = "erp-auto"
_EXAMPLES = (
    ("What is the capital of China?", "Beijing"),
    ("What is the opposite of big?", "small"),
    ("What is the plural of goose?", "geese"),
    ("Which season comes after winter?", "spring"),
    ("What is 3 plus 4?", "7"),
    ("Continue: 5, 6, 7, 8, 9,", "10"),
    ("What is the first letter of ocean?", "o"),
)
# A base model has no instructions to follow, but goes on as a text began; its template separates turns by blank lines.
_AS_TURNS = "\n\n".join(f"{question}\n\n{answer}" for question, answer in _EXAMPLES)
_AS_LINES = "\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in _EXAMPLES)


@dataclass(frozen=True, slots=True)
class Member:
    """A pool member: a served model under a system prompt.

    Attributes
    ----------
    served : what its server calls the model
    usd_per_mtok : made up, in proportion to parameters
    """

    name: str
    served: str
    system_prompt: str | None
    usd_per_mtok: float


SMOLLM2, GEMMA3 = "smollm2", "gemma3"
FOLDERS = {SMOLLM2: "SmolLM2-135M-Instruct", GEMMA3: "gemma-3-270m"}
TERSE = "Answer with one word or number."
MEMBERS = (
    Member("smollm2", SMOLLM2, TERSE, 0.01),
    Member("gemma3", GEMMA3, None, 0.02),
    Member("gemma3-examples", GEMMA3, _AS_TURNS, 0.02),
)
# The same three steps with one server, for tests.
MEMBERS_OF_ONE = (
    Member("plain", SMOLLM2, None, 0.01),
    Member("terse", SMOLLM2, TERSE, 0.01),
    Member("examples", SMOLLM2, _AS_LINES, 0.01),
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """How responses are drawn, when sampling and when serving."""

    k: int = 8
    temperature: float = 0.7
    max_tokens: int = 8


def write_questions(path: Path, asked: Sequence[Question]) -> None:
    """As a prompt source that `erp-train` reads."""
    lines = (json.dumps(asdict(question), ensure_ascii=False) for question in asked)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_pool(path: Path, members: Sequence[Member], api_bases: Mapping[str, str], drawn: Drawn) -> Path:
    """pool.yaml of some members; ``run`` and ``bundle`` beside it, the tiny reward model with weight 0."""
    document = {
        "run": "run",
        "bundle": "bundle",
        "prompts": {"source": "questions.jsonl"},
        "sampling": {"k": drawn.k, "temperature": drawn.temperature, "max_tokens": drawn.max_tokens},
        "models": {
            member.name: {
                "model": member.served,
                "api_base": api_bases[member.served],
                "price": {"input_usd_per_mtok": member.usd_per_mtok, "output_usd_per_mtok": member.usd_per_mtok},
                # A server of two cores that samples for one model and serves another may take its time.
                "timeout_s": 1200,
            }
            | ({"system_prompt": member.system_prompt} if member.system_prompt else {})
            for member in members
        },
        "rewards": [
            {"kind": "regex", "name": "right", "pattern": RIGHT, "weight": 1},
            {"kind": "classifier", "name": "tiny", "model": "tiny-reward-model", "weight": 0},
        ],
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def write_proxy_config(
    path: Path, members: Sequence[Member], api_bases: Mapping[str, str], bundle: Path, drawn: Drawn
) -> Path:
    """A config that serves all members as one group, each under its system prompt and sampling parameters."""
    config = {
        "model_list": [_deployment(member, api_bases[member.served], drawn) for member in members],
        "general_settings": MASTER_KEY,
        "litellm_settings": {"callbacks": ["litellm_erp.proxy.erp_router"]},
        "router_settings": router_settings({GROUP: [member.name for member in members]}, timeout=600),
        "erp_settings": {
            "reload_s": 1,
            "groups": {GROUP: {"bundle": str(bundle.resolve()), "policy": {"lambda": 0}}},
        },
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _deployment(member: Member, api_base: str, drawn: Drawn) -> dict[str, Any]:
    # What LiteLLM puts before the messages that a deployment is sent.
    prompt: dict[str, Any] = {"litellm_system_prompt": member.system_prompt} if member.system_prompt else {}
    prices = (member.usd_per_mtok, member.usd_per_mtok)
    params = {"temperature": drawn.temperature, "max_tokens": drawn.max_tokens} | prompt
    return deployment(member.name, member.served, api_base, prices, **params)


def write_tiny_reward_model(folder: Path) -> Path:
    """A one-label classifier with random weights: its rewards mean nothing, its files are those of a real one."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    alphabet = [chr(code) for code in range(32, 127)]
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[SEP]", *alphabet])}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    characters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=characters, pad_token="[PAD]", unk_token="[UNK]", sep_token="[SEP]", model_max_length=128
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=128, num_labels=1, pad_token_id=0,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def probe_digests(bundle: Path) -> dict[str, str]:
    """sha256 of every probe file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((bundle / "probes").iterdir())}
