"""Reward models in this process: a transformers sequence classifier with one label.

A kind says how a pair becomes tokens (`Form`) and which class loads the weights; everything else is here.
Rows are padded on the right and pooled by the model itself at its last token that is not padding. Causal attention and
attention masks keep padding out of every other token, so a reward does not depend on what else is in its batch.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from erp_trainer.rewards.base import Advance, Pair, RewardModel, RewardOptions, Scored
from erp_trainer.rewards.batching import TokenBatcher, TooLarge
from erp_trainer.rewards.truncation import RULE, Tokens, fit
from litellm_erp.errors import RewardError, SettingsError
from litellm_erp.shown import one_line

Row = dict[str, list[int]]
_CPU_TOKENS_PER_BATCH = 1024
_UNLIMITED = 1_000_000


class Form(Protocol):
    """How a pair becomes the input of a reward model."""

    name: str

    def texts(self, pair: Pair) -> list[str]:
        """The prompt's texts, oldest first, as `truncation.fit` may cut them."""
        ...

    def encode(self, pairs: Sequence[Pair], cut: Sequence[tuple[list[str], str]]) -> list[Row]:
        """Token ids, and whatever else the model takes, of the pairs with these texts and responses instead."""
        ...


class TokenizerTokens(Tokens):
    """By a tokenizer: a fast one knows where in the text each token lies, others decode."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[Any]:
        fast = bool(self._tokenizer.is_fast)
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=fast, verbose=False)
        return list(found["offset_mapping" if fast else "input_ids"])

    def decode(self, text: str, kept: list[Any], *, from_start: bool) -> str:
        if not self._tokenizer.is_fast:
            return str(self._tokenizer.decode(kept))
        return text[: kept[-1][1]] if from_start else text[kept[0][0] :]


class LocalModel(RewardModel):
    """Everything that the kinds in this process share.

    Options: ``model`` (a hub id, or a folder, relative to the pool file), ``revision``, ``trust_remote_code`` (of a hub
    id only with a revision of 40 hex digits), ``max_tokens`` (default: what model and tokenizer state), ``device``
    (default: the GPU if there is one), ``dtype`` (default: bfloat16 on a GPU, float32 elsewhere),
    ``max_tokens_per_batch`` (default: by free memory).
    """

    auto_class = "AutoModelForSequenceClassification"

    def read(self, options: RewardOptions) -> None:
        self.model_id = options.text("model")
        folder = options.base / self.model_id
        self.source = str(folder) if folder.is_dir() else self.model_id
        self.revision = options.optional_text("revision")
        self.trust_remote_code = options.boolean("trust_remote_code", False)
        self.check_options()
        self.max_tokens = options.optional_integer("max_tokens")
        self.max_tokens_per_batch = options.optional_integer("max_tokens_per_batch")
        device = options.optional_text("device")
        dtype = options.choice("dtype", ("auto", "bfloat16", "float16", "float32"), "auto")
        self.config, self.tokenizer = self._read_configuration()
        self.max_tokens = self.max_tokens or self._stated_context()
        self.form = self.make_form(options)
        self.device = device or _default_device()
        self.dtype = ("bfloat16" if self.device.startswith("cuda") else "float32") if dtype == "auto" else dtype
        self.check_config()

    @abstractmethod
    def make_form(self, options: RewardOptions) -> Form:
        """The form of the kind, after reading the kind's own options."""

    def check_config(self) -> None:
        """Raise `SettingsError` unless the configuration is that of a one-label classifier."""
        labels = int(getattr(self.config, "num_labels", 0))
        if labels != 1:
            raise SettingsError(
                f"{self.where}: {self.model_id} has {labels} labels; a reward model is a sequence classifier with one. "
                "Choose another model, or write a callable that makes one number of them"
            )

    def identity(self) -> dict[str, Any]:
        """Weights, form, context and dtype; rewards in bfloat16 are not those in float32."""
        return {
            "kind": self.kind,
            "model": self.model_id,
            "revision": getattr(self.config, "_commit_hash", None) or self.revision,
            "weights": _fingerprint(Path(self.source)),
            "form": self.form.name,
            "max_tokens": self.max_tokens,
            "truncation_rule": RULE,
            "dtype": self.dtype,
        }

    def score(self, pairs: Sequence[Pair], advance: Advance) -> list[Scored]:
        rows, truncated = self.rows(pairs)
        batcher = self._batcher
        try:
            rewards = batcher.run(
                [len(row["input_ids"]) for row in rows],
                lambda chosen: self.forward([rows[i] for i in chosen]),
                advance,
                free=self._free_memory,
            )
        except TooLarge as e:
            raise RewardError(
                f"{self.where}: one input of {e.args[0]} tokens does not fit into memory ({e.args[1]}). Lower "
                "max_tokens, or choose another device"
            ) from e
        return [Scored(reward, cut) for reward, cut in zip(rewards, truncated, strict=True)]

    def check(self) -> None:
        """Load the weights, and free them again: sampling may need the memory."""
        try:
            _ = self.model
        finally:
            self.close()

    def close(self) -> None:
        self.__dict__.pop("model", None)
        self._free_memory()

    def forward(self, rows: Sequence[Row]) -> list[float]:
        """Raw rewards of one batch."""
        import torch

        model, pad_id = self.model, self._pad_id(rows)
        width = max(len(row["input_ids"]) for row in rows)
        batch = {
            key: [self.pad(row[key], width, pad_id if key == "input_ids" else 0) for row in rows] for key in rows[0]
        }
        batch["attention_mask"] = [self.pad([1] * len(row["input_ids"]), width, 0) for row in rows]
        with torch.inference_mode():
            tensors = {key: torch.tensor(value, device=self.device) for key, value in batch.items()}
            logits = model(**tensors).logits
        return list(logits.float().reshape(len(rows)).tolist())

    @staticmethod
    def pad(values: list[int], width: int, filler: int) -> list[int]:
        """One row, padded on the right."""
        return values + [filler] * (width - len(values))

    @cached_property
    def model(self) -> Any:
        """The weights, on the device.

        Raises
        ------
        RewardError : they cannot be loaded
        SettingsError : they lack the classifier's head
        """
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        auto = getattr(transformers, self.auto_class)
        try:
            model, info = auto.from_pretrained(
                self.source, dtype=getattr(torch, self.dtype), output_loading_info=True, **self._pinned()
            )
            model = model.to(self.device).eval()
        except Exception as e:  # a file that is cut, and whatever code of a repository raises
            raise RewardError(f"{self.where}: {self.model_id} cannot be loaded ({one_line(e)})") from e
        if missing := sorted(info["missing_keys"]):
            raise SettingsError(
                f"{self.where}: {self.model_id} has no weights for {missing[0]}, so rewards would be random; expected "
                "a trained sequence classifier with one label"
            )
        return model

    @cached_property
    def _batcher(self) -> TokenBatcher:
        return TokenBatcher(self.max_tokens_per_batch or self._default_tokens_per_batch())

    def rows(self, pairs: Sequence[Pair]) -> tuple[list[Row], list[bool]]:
        """The model's inputs, and which of them had to be cut."""
        texts = [self.form.texts(pair) for pair in pairs]
        rows = self.form.encode(pairs, [(texts[i], pair.response) for i, pair in enumerate(pairs)])
        truncated = [False] * len(pairs)
        for i, pair in enumerate(pairs):
            if len(rows[i]["input_ids"]) > self.context:
                rows[i] = self._cut(pair, texts[i])
                truncated[i] = True
        return rows, truncated

    def _cut(self, pair: Pair, texts: list[str]) -> Row:
        def encode(texts: Sequence[str], response: str) -> Row:
            return self.form.encode([pair], [(list(texts), response)])[0]

        try:
            cut = fit(
                texts,
                pair.response,
                context=self.context,
                tokens=TokenizerTokens(self.tokenizer),
                length=lambda texts, response: len(encode(texts, response)["input_ids"]),
            )
        except ValueError as e:
            raise RewardError(f"{self.where}: {e}; raise max_tokens") from e
        return encode(*(cut or (texts, pair.response)))

    @property
    def context(self) -> int:
        """Tokens of an input at most."""
        return self.max_tokens or _UNLIMITED

    def _pad_id(self, rows: Sequence[Row]) -> int:
        # A model without a padding token takes the last token of a row; with one, the last that is not padding. Any id
        # that no row of the batch ends in therefore serves as padding.
        config = self.model.config.get_text_config()
        stated = getattr(self.config.get_text_config(), "pad_token_id", None)
        if stated is not None and stated >= 0:
            return int(stated)
        last = {row["input_ids"][-1] for row in rows if row["input_ids"]}
        config.pad_token_id = next(i for i in range(len(last) + 1) if i not in last)
        return int(config.pad_token_id)

    def _read_configuration(self) -> tuple[Any, Any]:
        try:
            from transformers import AutoConfig, AutoTokenizer
        except ImportError as e:
            raise SettingsError(
                f"{self.where}: transformers is not installed; run pip install 'litellm-erp[transformer]'"
            ) from e
        try:
            config = AutoConfig.from_pretrained(self.source, **self._pinned())
            tokenizer = AutoTokenizer.from_pretrained(self.source, **self._pinned())
        except Exception as e:  # of whatever kind a damaged file makes the libraries raise
            raise SettingsError(
                f"{self.where}: {self.model_id} cannot be read ({one_line(e)}); expected a hub id or a "
                "folder with config.json and a tokenizer"
            ) from e
        return config, tokenizer

    def _pinned(self) -> dict[str, Any]:
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}

    def check_options(self) -> None:
        """Raise `SettingsError` where code would be run from something that can change."""
        commit = len(self.revision or "") == 40 and set(self.revision or "") <= set("0123456789abcdef")
        if self.trust_remote_code and not commit and not Path(self.source).is_dir():
            raise SettingsError(
                f"{self.where}: trust_remote_code runs code from {self.model_id}; pin what was read: revision: with "
                "the 40 hex digits of a commit"
            )

    def _stated_context(self) -> int | None:
        config = self.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None)
        if positions and getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert"):
            positions -= int(config.pad_token_id or 0) + 1  # their positions start after the padding's
        stated = [positions, getattr(self.tokenizer, "model_max_length", None)]
        # Tokenizers that know no limit state one of 1e30.
        return min((int(n) for n in stated if n and 0 < n < _UNLIMITED), default=None)

    def _default_tokens_per_batch(self) -> int:
        if not self.device.startswith("cuda"):
            return _CPU_TOKENS_PER_BATCH
        import torch

        config, _ = self.config.get_text_config(), self.model
        hidden = int(getattr(config, "hidden_size", 4096))
        inner = int(getattr(config, "intermediate_size", 0) or 4 * hidden)
        scores = int(getattr(config, "num_attention_heads", 32)) * min(self.context, 4096)
        size = 4 if self.dtype == "float32" else 2
        free, _ = torch.cuda.mem_get_info(self.device)
        return max(int(0.8 * free / (size * (12 * hidden + 4 * inner + 2 * scores))), 512)

    def _free_memory(self) -> None:
        import gc

        gc.collect()
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()


def chat_text(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation as the tokenizer's chat template writes it; the template decides about BOS and end of turn."""
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=False))


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _fingerprint(folder: Path) -> str | None:
    """Of a folder's weights: names, sizes, and both ends of every file; None for a hub id, which has revisions."""
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin", ".json", ".model", ".jinja", ".py", ".txt"):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(1 << 20))
                with suppress(OSError):  # a file shorter than that
                    file.seek(-(1 << 20), 2)
                digest.update(file.read(1 << 20))
    return digest.hexdigest()[:16]
