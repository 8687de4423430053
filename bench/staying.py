"""``python -m bench.staying``: what conversations cost and earn where they stay, stay always, or never do.

Conversations are made of the test prompts of LLMRouter's example data: 1 to 20 questions, seven in ten of one task; one
question in five lets the model call tools one to five times before it answers. Who answers is decided by the shipped
code (`Candidates.rank`, `Conversations`) on a bundle fitted on the train split; a question's reward is the one recorded
for the model that gave its last answer, its answers are as long as recorded, and what a request costs is worked out
from what the chosen provider really holds in its prompt cache: whatever it read in this conversation within the last
five minutes. A tool's result has 300 tokens, the system prompt 500. Between questions lie 90 seconds on average
(exponential), between tool calls 5. Prices are the data's; a cached input token costs ``--cached`` of another.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import heading
from demo.prepare import EXAMPLE, erp_train
from erp_trainer.learning.embed import embed_run
from erp_trainer.outcomes.run import open_run
from litellm_erp.bundle.frontier import upper_hull
from litellm_erp.bundle.load import load_bundle
from litellm_erp.bundle.ranking import Candidates, Warm
from litellm_erp.choice.decision import Held
from litellm_erp.conversations.memory import Conversations, conversation_of
from litellm_erp.embedding.static import StaticEmbedder
from litellm_erp.goals.settings import StaySettings

LAMBDAS = (0.0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.2, 1.6, 3.2, 5.0, 8.0)
MODES = {
    "off": StaySettings("off"),
    "priced": StaySettings("priced"),
    "priced, margin .02": StaySettings("priced", margin=0.02),
    "always": StaySettings("always"),
}
SYSTEM_TOKENS, TOOL_TOKENS, CACHE_S = 500.0, 300.0, 300.0


@dataclass(frozen=True)
class World:
    """The prompts that conversations are made of, and what models earn on them; P prompts, M models."""

    vectors_PD: np.ndarray
    rewards_PM: np.ndarray
    answer_tokens_PM: np.ndarray
    tokens_P: np.ndarray
    tasks_P: np.ndarray
    candidates: Candidates
    input_usd_M: np.ndarray
    output_usd_M: np.ndarray
    cached_usd_M: np.ndarray


@dataclass(frozen=True)
class Step:
    """One request: which prompt, seconds since the one before, whether it goes on after a tool, whether it answers."""

    prompt: int
    after_s: float
    in_loop: bool
    answers: bool


@dataclass
class Outcome:
    """Sums over conversations; rewards are of questions, USD of all requests."""

    reward: float = 0.0
    questions: int = 0
    usd: float = 0.0
    requests: int = 0
    switches: int = 0
    switches_in_loops: int = 0


def world_of(folder: Path, cached: float) -> World:
    """Import the example by import's own split, fit it, and take its test prompts."""
    run, bundle_path = folder / "run", folder / "bundle"
    prices = EXAMPLE / "prices.yaml"
    erp_train("import", EXAMPLE / "outcomes.parquet", "--wide", "--prices", prices, "--out", run)
    erp_train("fit", run, "--out", bundle_path)
    opened, bundle = open_run(run), load_bundle(bundle_path)
    outcomes = opened.outcomes()
    embedded = embed_run(opened, outcomes, StaticEmbedder())
    test = np.array(outcomes.splits) == "test"
    columns = [outcomes.models.index(name) for name in bundle.models]
    own = bundle.prices()
    table = replace(own, cache_saves_M=own.input_M * (1.0 - cached))
    answers_PM = outcomes.output_tokens_PM[test][:, columns]
    return World(
        embedded.embeddings_PD[test],
        outcomes.rewards_PM[test][:, columns],
        np.where(np.isnan(answers_PM), 256.0, answers_PM),
        embedded.input_tokens_P[test].astype(float),
        np.array(outcomes.categories)[test],
        Candidates(bundle, range(len(columns)), 0, table),
        table.input_M,
        table.output_M,
        table.input_M * cached,
    )


def conversation(world: World, rng: np.random.Generator) -> list[Step]:
    """A conversation of 1 to 20 questions."""
    steps: list[Step] = []
    task = rng.choice(world.tasks_P)
    same = np.flatnonzero(world.tasks_P == task)
    for _ in range(rng.integers(1, 21)):
        prompt = int(rng.choice(same) if rng.random() < 0.7 else rng.integers(len(world.tasks_P)))
        calls = int(rng.integers(1, 6)) if rng.random() < 0.2 else 0
        steps += [
            Step(prompt, rng.exponential(5.0 if call else 90.0), call > 0, call == calls) for call in range(calls + 1)
        ]
    return steps


def served(world: World, steps: Sequence[Step], stay: StaySettings, lambda_: float, into: Outcome) -> None:
    """Let one conversation be served, and count it."""
    now = [0.0]
    known = Conversations(clock=lambda: now[0])
    turns: list[Any] = []
    history = SYSTEM_TOKENS
    held: dict[int, tuple[float, float]] = {}  # model -> when it last read this conversation, and how much of it
    model: int | None = None
    for step in steps:
        now[0] += step.after_s
        tool = {"role": "tool", "content": f"result {len(turns)}"}
        turns.append(tool if step.in_loop else {"role": "user", "content": f"{len(turns)}: {step.prompt}"})
        history += TOOL_TOKENS if step.in_loop else world.tokens_P[step.prompt]
        talk = conversation_of(list(turns), "somebody")
        last = None if stay.mode == "off" else known.last(talk, stay)
        warm = None
        if last is not None:
            holds = last.awaits_tools or stay.mode == "always"
            cached = [(int(name), tokens) for name, tokens in last.cached_tokens.items()]
            warm = Warm(Held(int(last.model), np.inf if holds else stay.margin), cached)
        chosen = world.candidates.rank(world.vectors_PD[step.prompt], history, lambda_, warm=warm).order[0]
        known.serves(talk, str(chosen), history)
        _count(world, step, chosen, model, history, now[0], held, into)
        held[chosen], model = (now[0], history), chosen
        history += world.answer_tokens_PM[step.prompt, chosen] if step.answers else 40.0
        turns.append({"role": "assistant", "content": "", **({} if step.answers else {"tool_calls": [{"id": "c"}]})})


def _count(
    world: World,
    step: Step,
    chosen: int,
    before: int | None,
    tokens: float,
    now: float,
    held: dict[int, tuple[float, float]],
    into: Outcome,
) -> None:
    at, read = held.get(chosen, (-np.inf, 0.0))
    cached = read if now - at <= CACHE_S else 0.0
    answer = world.answer_tokens_PM[step.prompt, chosen] if step.answers else 40.0
    into.usd += (tokens - cached) * world.input_usd_M[chosen] + cached * world.cached_usd_M[chosen]
    into.usd += answer * world.output_usd_M[chosen]
    into.requests += 1
    if before is not None and before != chosen:
        into.switches += 1
        into.switches_in_loops += step.in_loop
    if step.answers:
        into.questions += 1
        into.reward += float(np.nan_to_num(world.rewards_PM[step.prompt, chosen]))


def run(world: World, conversations: int, seed: int = 0) -> dict[str, list[Outcome]]:
    """Every mode at every λ on the same conversations."""
    rng = np.random.default_rng(seed)
    made = [conversation(world, rng) for _ in range(conversations)]
    found: dict[str, list[Outcome]] = {}
    for name, stay in MODES.items():
        found[name] = []
        for lambda_ in LAMBDAS:
            outcome = Outcome()
            for steps in made:
                served(world, steps, stay, lambda_, outcome)
            found[name].append(outcome)
    return found


def cost_at(outcomes: Sequence[Outcome], reward: float) -> float:
    """USD per 1,000 questions at which a mode's λ reach a mean reward, mixing two of them; NaN where none does."""
    points = sorted((o.reward / o.questions, o.usd / o.questions * 1e3) for o in outcomes)
    rewards, costs = (np.array(axis) for axis in zip(*points, strict=True))
    hull = upper_hull(costs, rewards)
    on, at = rewards[hull], costs[hull]
    return float(np.interp(reward, on, at, left=at[0], right=np.nan))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.staying", description=__doc__)
    parser.add_argument("--conversations", type=int, default=5000)
    parser.add_argument("--cached", type=float, default=0.1, help="price of a cached input token, as a share")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        world = world_of(Path(scratch), asked.cached)
    found = run(world, asked.conversations)
    first = found["off"][0]
    print(
        heading(
            "Conversations that stay where they are warm",
            f"{asked.conversations:,} conversations, {first.questions:,} questions, {first.requests:,} requests; a "
            f"cached token costs {asked.cached:g} of another",
        )
    )
    print("\n| λ | mode | mean reward | USD per 1,000 questions | switches per conversation | inside tool loops |")
    print("|---|---|---|---|---|---|")
    for i, lambda_ in enumerate(LAMBDAS):
        for name, outcomes in found.items():
            o = outcomes[i]
            print(
                f"| {lambda_:g} | {name} | {o.reward / o.questions:.4f} | {o.usd / o.questions * 1e3:.4f} | "
                f"{o.switches / asked.conversations:.2f} | {o.switches_in_loops} |"
            )
    print("\n| mean reward | " + " | ".join(f"{name}, USD" for name in MODES) + " |\n|---|" + "---|" * len(MODES))
    for reward in sorted({round(o.reward / o.questions, 4) for o in found["off"]}):
        cells = (f"{cost_at(outcomes, reward):.4f}" for outcomes in found.values())
        print(f"| {reward:.4f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
