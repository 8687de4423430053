"""An evaluation payload as docs/evaluation.md describes it, made up from a seed: for tests that draw, not measure."""

from typing import Any

import numpy as np

MODELS = ("tiny-1b", "small-8b", "mid-32b", "large-70b")
CATEGORIES = ("code", "law & order", "maths")
LAMBDAS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 4.0)


def interval(mean: float, half: float = 0.02) -> dict[str, float]:
    """An interval around a mean."""
    return {"mean": mean, "low": mean - half, "high": mean + half}


def point(lambda_: float | None, reward: float, cost: float | None, share: dict[str, float]) -> dict[str, Any]:
    """One policy at one λ."""
    return {
        "lambda": lambda_,
        "reward": reward,
        "reward_ci": [reward - 0.02, reward + 0.02],
        "cost_usd": cost,
        "cost_ci": None if cost is None else [cost * 0.9, cost * 1.1],
        "regret": 0.9 - reward,
        "regret_ci": [0.88 - reward, 0.92 - reward],
        "regret_bracket": [0.86 - reward, 0.94 - reward],
        "share": share,
        "pareto": True,
        "against_best_single": interval(reward - 0.6),
    }


def curve(label: str, kind: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    """One policy over λ."""
    against = {"gained_at_equal_cost": interval(0.01), "saved_at_equal_reward": None, "area": interval(0.03)}
    saved = {"mean": 0.4, "low": 0.2, "high": 0.5, "reached": 0.9}
    return {
        "label": label,
        "kind": kind,
        "servable": kind == "bundle",
        "sees_truth": kind == "bound",
        "points": points,
        "bundle_ahead": interval(0.01) if len(points) > 1 else None,
        "area": interval(0.6) if len(points) > 1 else None,
        "against": {"best_single": {**against, "saved_at_equal_reward": saved}, "mixture": against},
    }


def payload(*, models: tuple[str, ...] = MODELS, costs: bool = True, samples: int = 1) -> dict[str, Any]:
    """The whole of it.

    Parameters
    ----------
    costs : whether prices are known
    samples : K; above 1 there are noise ceilings
    """
    rng = np.random.default_rng(0)
    rewards = dict(zip(models, np.linspace(0.3, 0.6, len(models)).tolist(), strict=True))
    prices = dict(zip(models, np.geomspace(3e-5, 3e-4, len(models)).tolist(), strict=True))

    def traced(label: str, kind: str, gain: float) -> dict[str, Any]:
        points = []
        for place, lambda_ in enumerate(LAMBDAS):
            weights = rng.dirichlet(np.ones(len(models)))
            cost = 3e-4 * 0.7**place if costs else None
            share = dict(zip(models, weights.tolist(), strict=True))
            points.append(point(lambda_, 0.6 + gain - 0.02 * place, cost, share))
        return curve(label, kind, points)

    curves = {
        "erp": traced("ERP", "bundle", 0.03),
        "zooter": traced("Zooter", "rival", 0.01),
        "mixture": traced("mixture of single models", "baseline", -0.02),
        "oracle": traced("oracle", "bound", 0.25),
    }
    for name in models:
        cost = prices[name] if costs else None
        curves[f"single:{name}"] = curve(f"single: {name}", "single", [point(None, rewards[name], cost, {name: 1.0})])
    best = models[-1]
    return {
        "lambda": 0.0,
        "counts": {
            "test_prompts": 200,
            "train_prompts": 800,
            "left_out": 3,
            "clusters": 198,
            "models": len(models),
            "samples": samples,
            "single_rewards": samples > 1,
        },
        "test_prompts": 200,
        "left_out": 3,
        "models_left_out": [],
        "cost": {"kind": "usd", "unit": "USD", "scale": 1000, "known": costs},
        "reward": {"models": ["rewards"], "unit": "reward", "normalisation": "none", "zero": None},
        "intervals": {"level": 0.95, "resamples": 1000, "seed": 0},
        "policies": {
            found["label"]: {
                **found["points"][0],
                "curve": key,
                "label": found["label"],
                "kind": found["kind"],
                "against_mixture": None,
                "against_category_best": None,
                "bundle_ahead": {"reward": interval(0.01), "utility": None},
                "prompts": 200,
            }
            for key, found in curves.items()
        },
        "curves": curves,
        "oracle": {
            "kind": "ex-post",
            "reward": interval(0.9),
            "prompts": 200,
            "text": "The best in hindsight.",
            "bracket": [0.83, 0.93],
            "bracket_text": "from too low to too high",
        },
        "models": {name: _model(rewards[name], prices[name] if costs else None, rng, samples) for name in models},
        "pairs": _pairs(models, rng) if len(models) > 1 else None,
        "win_rates": _win_rates(models, rng) if len(models) > 1 else None,
        "proposition": None,
        "categories": {name: _category(models, rewards) for name in CATEGORIES},
        "tasks": None,
        "entropy": None,
        "routellm": None,
        "leave_one_task_out": _unseen(best),
        "price_of_adding": _adding(models),
        "bundle_verdict": {"text": "Routing helps (out of fold)."},
        "verdict": {
            "kind": "both",
            "helps": True,
            "best_single": best,
            "gain": interval(0.03),
            "savings": {"1": interval(0.3)},
            "recommended": {"lambda": 0.5, "budget_usd_per_1k_requests": 1.0, "min_quality": 1.0},
            "text": "Routing helps at λ = 0. It is cheaper too.",
        },
        "timings_s": {},
    }


def _model(reward: float, cost: float | None, rng: np.random.Generator, samples: int) -> dict[str, Any]:
    predicted = np.sort(rng.uniform(reward - 0.2, reward + 0.2, 8)).tolist()
    bins = [
        {"predicted": p, "observed": p + 0.03, "observed_ci": [p - 0.03, p + 0.09], "prompts": 25} for p in predicted
    ]
    return {
        "r2": 0.2,
        "r2_ci": [0.1, 0.3],
        "r2_by_category": {name: {"r2": 0.05, "ci": [-0.1, 0.2], "prompts": 60} for name in CATEGORIES},
        "ceiling": 0.5 if samples > 1 else None,
        "ceiling_by_category": {},
        "mean_reward": reward,
        "mean_reward_ci": [reward - 0.02, reward + 0.02],
        "train_mean_reward": reward,
        "cost_usd": cost,
        "train_rows": 800,
        "prompts": 200,
        "standardised_error": 1.02,
        "calibration": {"slope": 0.97, "intercept": 0.01, "bins": bins},
        "error_calibration": {"within_95": 0.95, "bins": []},
    }


def _square(models: tuple[str, ...], rng: np.random.Generator) -> list[list[float | None]]:
    values = rng.uniform(0.4, 0.8, (len(models), len(models))).tolist()
    return [[None if i == j else value for j, value in enumerate(row)] for i, row in enumerate(values)]


def _pairs(models: tuple[str, ...], rng: np.random.Generator) -> dict[str, Any]:
    return {
        "models": list(models),
        "auroc": _square(models, rng),
        "auroc_other": {"pairwise": _square(models, rng)},
        "draws": _square(models, rng),
        "ties": _square(models, rng),
        "rows": [],
    }


def _win_rates(models: tuple[str, ...], rng: np.random.Generator) -> dict[str, Any]:
    names = ("", *CATEGORIES)
    shares = {name: rng.dirichlet(np.ones(len(models))).tolist() for name in names}
    return {
        "models": list(models),
        "prompts": dict.fromkeys(names, 60),
        "predicted": shares,
        "true": shares,
        "true_ci": {name: [[0.0, 1.0]] * len(models) for name in names},
        "pairwise_predicted": {name: _square(models, rng) for name in names},
        "pairwise_true": {name: _square(models, rng) for name in names},
    }


def _category(models: tuple[str, ...], rewards: dict[str, float]) -> dict[str, Any]:
    return {
        "test_prompts": 60,
        "train_prompts": 240,
        "models": {
            name: {"reward": rewards[name], "reward_ci": [rewards[name] - 0.05, rewards[name] + 0.05], "prompts": 60}
            for name in models
        },
        "best_on_train": models[-1],
        "best_on_test": models[0],
        "policies": {"erp": {"reward": 0.62, "reward_ci": [0.55, 0.69]}},
        "share": {models[-1]: 0.8, models[0]: 0.2},
        "gain": interval(0.02),
    }


def _adding(models: tuple[str, ...]) -> dict[str, Any]:
    points = [
        {"prompts": n, "reward": interval(0.6), "gain": interval(0.001 * n**0.5), "cost_usd": 0.01 * n}
        for n in (25, 50, 100, 200, 500)
    ]
    return {
        "lambda": 0.0,
        "models": [
            {
                "model": name,
                "without": interval(0.58),
                "points": points,
                "all": {"prompts": 800, "reward": interval(0.63), "gain": interval(0.05)},
            }
            for name in models
        ],
        "text": "A model is worth having from 100 prompts on.",
    }


def _unseen(best: str) -> dict[str, Any]:
    gained = {"erp": {"gain": interval(-0.01), "reward": 0.59}, "zooter": {"gain": interval(-0.02), "reward": 0.58}}
    tasks = [{"task": name, "prompts": 60, "best_single": best, "policies": gained} for name in CATEGORIES[:-1]]
    scores = ("accuracy", "ratio_to_best", "pearson", "spearman", "share_best_on_average", "mean_cost_usd", "rank")
    by_score = [{"policy": name, **dict.fromkeys(scores, 0.5)} for name in ("s1", "s2", "s3")]
    points = [
        {"share": share, "prompts": 100 * share, "s1": 0.5 + 0.1 * share, "s3": 0.55, "s3_true": 0.57, "best": 0.6}
        for share in (0.0, 0.25, 0.5, 1.0)
    ]
    return {
        "lambda": 0.0,
        "tasks": [*tasks, {"task": CATEGORIES[-1], "prompts": 60, "skipped": "too few prompts"}],
        "overall": {key: found["gain"] for key, found in gained.items()},
        "benchmark": {
            "threshold": 0.5,
            "rows": by_score,
            "in_distribution": points,
            "small_models": {"models": list(MODELS[:2]), "rows": by_score},
        },
    }
