"""The parts, each run in a process of its own: a model's folder is made, measured and thrown away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.gpu import architectures as made
from bench.gpu.measuring import Emit, Setting


@dataclass(frozen=True)
class Part:
    """One architecture under one of our engines.

    Attributes
    ----------
    share : of the time, against the other parts
    run : title, empty folder, setting, where figures go, and the folder of the real InternLM2 reward model, if given
    """

    title: str
    share: float
    run: Callable[[str, Path, Setting, Emit, Path | None], None]


def _scoring(architecture: made.Architecture, kind: str) -> Callable[..., None]:
    def run(title: str, folder: Path, setting: Setting, emit: Emit, internlm: Path | None) -> None:
        from bench.gpu import scoring

        made.write(architecture, folder, setting.device, tiny=setting.tiny)
        encode = scoring.as_chats if architecture.chat else scoring.as_pairs
        options = {"model": str(folder), "device": setting.device}
        scoring.Scoring(title, kind, options, encode, setting, emit).run()

    return run


def _internlm(title: str, folder: Path, setting: Setting, emit: Emit, internlm: Path | None) -> None:
    from bench.gpu import scoring

    made.write_internlm(folder, setting.device, internlm, tiny=setting.tiny)
    whose = "the repository's own" if internlm else "a stand-in's: a Llama of its sizes with a value head"
    emit({"part": title, "fact": f"modelling code is {whose}"})
    options = {"model": str(folder), "device": setting.device, "via": "remote-code", "trust_remote_code": True}
    scoring.Scoring(title, "internlm", options, scoring.as_internlm, setting, emit).run()


def _embedding(architecture: made.Architecture) -> Callable[..., None]:
    def run(title: str, folder: Path, setting: Setting, emit: Emit, internlm: Path | None) -> None:
        from bench.gpu import embedding

        made.write_embedder(architecture, folder, setting.device, tiny=setting.tiny)
        embedding.run(title, folder, setting, emit)

    return run


def _sampling(architecture: made.Architecture) -> Callable[..., None]:
    def run(title: str, folder: Path, setting: Setting, emit: Emit, internlm: Path | None) -> None:
        from bench.gpu import sampling

        made.write(architecture, folder, setting.device, tiny=setting.tiny)
        sampling.Decoder(title, folder, setting, emit).run()

    return run


PARTS = {
    "deberta": Part(made.DEBERTA.title, 1.2, _scoring(made.DEBERTA, "text-pair")),
    "gemma": Part(made.GEMMA_HEAD.title, 1.7, _scoring(made.GEMMA_HEAD, "chat-template")),
    "gte-large": Part(made.GTE_LARGE.title, 0.8, _embedding(made.GTE_LARGE)),
    "minilm": Part(made.MINILM.title, 0.7, _embedding(made.MINILM)),
    "decoder-2b": Part(f"{made.DECODER_2B.title}, sampled", 1.5, _sampling(made.DECODER_2B)),
    "decoder-8b": Part(f"{made.DECODER_8B.title}, sampled", 2.3, _sampling(made.DECODER_8B)),
    "internlm": Part(made.INTERNLM.title, 3, _internlm),
}
