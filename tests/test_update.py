"""A bundle learns from a log: as a fit on everything would, what is new, if it is no worse, and back again."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from erp_trainer.bundles.predict import bundle_embedder
from erp_trainer.cli import cli
from erp_trainer.learning.features import Labelling
from erp_trainer.learning.moments import Moments, RidgeSolver
from erp_trainer.learning.stack import Stack, label_totals
from erp_trainer.logged.sums import ModelSums, NewRows, mean_rewards, updated
from erp_trainer.logged.update import is_held_out
from litellm_erp.bundle.features import FeatureProbes, Features
from litellm_erp.bundle.load import load_bundle, verify_bundle
from tests.harness import MODELS
from tests.logs import decision, feedback, write
from tests.planted import prompt_of
from tests.pools import KINDS

# After the bundle was made, and not so far ahead as to be a mistake.
NOW = time.time() + 3600.0

RNG = np.random.default_rng(7)
D, SIZES = 24, (3, 4)
DAY_S = 86_400.0


def rows(n: int, n_models: int, missing: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    x = RNG.normal(size=(n, D))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    y = x @ RNG.normal(size=(D, n_models)) + RNG.normal(0, 0.1, (n, n_models)) + np.arange(n_models)
    return x, np.where(RNG.random(y.shape) < missing, np.nan, y)


def features() -> Features:
    weights = RNG.normal(size=(D, sum(SIZES))).astype(np.float32)
    return Features(weights, np.zeros(sum(SIZES), dtype=np.float32), SIZES, np.empty(0), 0.0)


def labels_of(found: Features, x: np.ndarray) -> list[Labelling]:
    memberships = found.memberships(found.scores(x))
    parts = np.split(memberships, [SIZES[0]], axis=1)
    return [Labelling(part.argmax(axis=1), size, 1.0) for part, size in zip(parts, SIZES, strict=True)]


def sums(found: Features, x: np.ndarray, y: np.ndarray, until: float = 0.0) -> dict[int, ModelSums]:
    kept = {}
    for m in range(y.shape[1]):
        have = ~np.isnan(y[:, m])
        totals = label_totals(y[have][:, [m]], [each.rows(np.flatnonzero(have)) for each in labels_of(found, x)])
        shared = f"shared-{np.packbits(have).tobytes().hex()}"
        kept[m] = ModelSums(shared, Moments.of(x[have], y[have][:, [m]]), totals[:, :, 0], until)
    return kept


@pytest.mark.parametrize("missing", [0.0, 0.8])
def test_an_update_without_forgetting_is_a_fit_on_everything(missing):
    found, stack, n_models = features(), Stack(3.0, (0.4, 0.3, 0.5)), 5
    old_x, old_y = rows(300, n_models, missing / 2)
    new_x, new_y = rows(200, n_models, missing)
    kept, new = sums(found, old_x, old_y), NewRows(new_x, new_y, np.arange(200.0))
    got = updated(kept, n_models, new, found, stack)
    x, y = np.vstack([old_x, new_x]), np.vstack([old_y, new_y])
    assert got.columns.tolist() == list(range(n_models))
    for m in range(n_models):
        have = np.flatnonzero(~np.isnan(y[:, m]))
        mean = y[have, m].mean()
        weights, intercept = RidgeSolver(Moments.of(x[have], y[have][:, [m]])).solve(stack.beta)
        probes = stack.probes(weights, intercept, np.array([mean]))
        cells = stack.cells(y[have][:, [m]], [each.rows(have) for each in labels_of(found, x)], np.array([mean]))
        np.testing.assert_allclose(got.probes.weights_DM[:, m], probes.weights_DM[:, 0], atol=1e-6)
        np.testing.assert_allclose(got.probes.intercept_M[m], probes.intercept_M[0], atol=1e-6)
        np.testing.assert_allclose(got.cells_FM[:, m], cells[:, 0], atol=1e-6)
        if not missing:
            assert mean_rewards(kept, new, new_y)[0][m] == pytest.approx(mean, abs=1e-9)


def test_updating_twice_is_updating_once_with_everything():
    found, stack = features(), Stack(3.0, (0.4, 0.3, 0.5))
    x, y = rows(400, 2)
    both = updated(sums(found, x[:200], y[:200]), 2, NewRows(x[200:], y[200:], np.arange(200.0)), found, stack)
    first = updated(sums(found, x[:200], y[:200]), 2, NewRows(x[200:300], y[200:300], np.arange(100.0)), found, stack)
    [(columns, moments)] = first.groups
    kept = {
        m: ModelSums("one", moments.columns(np.array([i])), first.totals_2FM[:, :, m], first.until)
        for i, m in enumerate(columns.tolist())
    }
    second = updated(kept, 2, NewRows(x[300:], y[300:], np.arange(100.0, 200.0)), found, stack)
    np.testing.assert_allclose(second.probes.weights_DM, both.probes.weights_DM, atol=1e-6)
    np.testing.assert_allclose(second.cells_FM, both.cells_FM, atol=1e-6)


def test_after_a_half_life_what_was_learned_counts_half():
    found, stack = features(), Stack(3.0, (0.4, 0.3, 0.5))
    old_x, old_y = rows(300, 1)
    new_x, new_y = rows(100, 1)
    kept, new = sums(found, old_x, old_y), NewRows(new_x, new_y + 5, np.full(100, 30 * DAY_S))
    [(_, moments)] = updated(kept, 1, new, found, stack, 30.0).groups
    assert moments.weight == pytest.approx(150 + 100)
    mean_M, weight_M = mean_rewards(kept, new, new_y, 30.0)
    assert mean_M[0] == pytest.approx((0.5 * old_y.sum() + (new_y + 5).sum()) / 250)
    assert weight_M[0] == 250


def test_a_model_without_new_rows_or_without_sums_is_left_alone():
    found, stack = features(), Stack(3.0, (0.4, 0.3, 0.5))
    x, y = rows(100, 3)
    new_x, new_y = rows(50, 3)
    new_y[:, 1] = np.nan
    kept = sums(found, x, y)
    del kept[2]
    assert updated(kept, 3, NewRows(new_x, new_y, np.zeros(50)), found, stack).columns.tolist() == [0]


# --- the command, on a real bundle


def run(*arguments: object, code: int = 0) -> dict:
    found = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert found.exit_code == code, found.output
    return json.loads(found.stdout)


@pytest.fixture
def bundle(planted_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(planted_bundle, tmp_path / "bundle"))


def log_of(path: Path, bundle: Path, rewards: dict[str, float], n: int = 300, start: int = 0, **changed) -> Path:
    """Requests with text and feedback; a model's reward is what the bundle expects of it plus a number."""
    loaded = load_bundle(bundle)
    texts = [f"Please explain topic number {i}, briefly." for i in range(start, start + n)]
    embedder = bundle_embedder(loaded)
    expected = loaded.predictor.predict(embedder.embed(texts))
    lines = []
    for i, text in enumerate(texts):
        m = i % len(loaded.models)
        name = loaded.models[m]
        made = {
            "served": name,
            "chosen": name,
            "propensity": {name: 1.0},
            "prompt": text,
            "time": NOW + start + i,
        }
        lines.append(decision(f"r{start + i}", **(made | changed)))
        lines.append(feedback(f"r{start + i}", float(expected[i, m]) + rewards.get(name, 0.0)))
    return write(path, lines)


def test_a_bundle_learns_what_changed_and_rolls_back(bundle, tmp_path):
    before = load_bundle(bundle)
    worse = MODELS[0]
    log = log_of(tmp_path / "a.jsonl", bundle, {worse: -0.3})
    found = run("update", bundle, "--log", log, "--require-better")
    after = verify_bundle(bundle)
    assert found["promoted"]
    assert found["judged"]["squared_error_after"] < found["judged"]["squared_error_before"]
    assert after.id == found["id"] != before.id
    m = before.models.index(worse)
    probe = bundle_embedder(after).embed(["Please explain topic number 12345, briefly."])
    assert after.predictor.predict(probe)[0, m] < before.predictor.predict(probe)[0, m] - 0.05
    assert run("rollback", bundle)["id"] == before.id
    assert verify_bundle(bundle).id == before.id
    assert run("rollback", bundle)["id"] == after.id


@pytest.mark.parametrize("last", ["update", "fit", "remove-model", "rollback"])
@pytest.mark.parametrize("earlier", ["update", "remove-model"])
def test_rollback_puts_back_what_the_latest_change_replaced_whatever_made_it(
    planted_bundle, bundle, tmp_path, earlier, last
):
    fitted_on = planted_bundle.parent / "run"

    def change(command, number):
        log = log_of(tmp_path / f"{number}.jsonl", bundle, {}, n=60, start=300 * number) if command == "update" else ""
        arguments = {
            "update": (bundle, "--log", log),
            "fit": (fitted_on, "--out", bundle),
            "remove-model": (bundle, "--run", fitted_on, "--model", MODELS[number]),
            "rollback": (bundle,),
        }
        run(command, *arguments[command])
        return verify_bundle(bundle).id

    change(earlier, 1)
    before = load_bundle(bundle).id
    after = change(last, 2)
    assert after != before
    for expected in (before, after, before):
        assert run("rollback", bundle)["id"] == verify_bundle(bundle).id == expected


def test_rollback_refuses_where_the_bundle_was_put_there_in_another_way(planted_bundle, bundle, tmp_path):
    run("update", bundle, "--log", log_of(tmp_path / "a.jsonl", bundle, {}, n=60))
    shutil.rmtree(bundle)
    run("fit", planted_bundle.parent / "run", "--out", bundle)
    found = load_bundle(bundle).id
    message = run("rollback", bundle, code=2)["error"]["message"]
    assert found in message
    assert "in another way since" in message
    assert verify_bundle(bundle).id == found


def test_a_mean_reward_is_over_all_requests_and_not_those_that_routing_gave_a_model():
    found, stack = features(), Stack(3.0, (0.0, 0.0, 1.0))
    old_x, old_y = rows(2000, 1)
    x, truth = rows(2000, 1)
    truth = x @ np.linalg.lstsq(old_x, old_y - old_y.mean(), rcond=None)[0] + old_y.mean()
    good = truth[:, 0] > truth.mean()
    seen = np.where(good[:, None], truth, np.nan)
    # Another model answered the others.
    both = np.hstack([seen, np.where(good[:, None], np.nan, 0.0)])
    kept = sums(found, old_x, np.hstack([old_y, np.zeros((2000, 1))]))
    new = NewRows(x, both, np.zeros(2000))
    got = updated(kept, 2, new, found, stack)
    expected = FeatureProbes(got.probes, found, got.cells_FM).predict(x)
    mean_M, _ = mean_rewards(kept, new, expected)
    assert mean_M[0] == pytest.approx((old_y.mean() + truth.mean()) / 2, abs=0.02)
    assert (old_y.sum() + seen[good].sum()) / (2000 + good.sum()) > mean_M[0] + 0.05


def test_feedback_is_learned_once(bundle, tmp_path):
    log = log_of(tmp_path / "a.jsonl", bundle, {})
    again = run("update", bundle, "--log", log)
    message = run("update", bundle, "--log", log, code=2)["error"]["message"]
    assert f"{again['rows']} learned before" in message
    assert f"{again['held_out']} held out" in message
    more = log_of(tmp_path / "b.jsonl", bundle, {}, n=100, start=300)
    found = run("update", bundle, "--log", log, "--log", more)
    assert found["learned_before"] == 300 - again["held_out"]
    assert found["rows"] + found["held_out"] == 100 + again["held_out"]


def parts(path: Path, log: Path, chosen: Callable[[int], bool]) -> Path:
    """The requests of a log whose number is chosen, with their feedback."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return write(path, [line for line in lines if chosen(int(line["request_id"][1:]))])


@pytest.mark.parametrize("how", ["the later half first", "every third of them", "team by team"])
def test_requests_are_learned_in_any_order_and_each_once(bundle, tmp_path, how):
    log = log_of(tmp_path / "a.jsonl", bundle, {MODELS[0]: -0.2})
    whole, bit_by_bit = bundle, Path(shutil.copytree(bundle, tmp_path / "other"))
    learned = run("update", whole, "--log", log)["rows"]
    chosen = {
        "the later half first": [lambda i: i >= 150, lambda i: i < 150],
        "every third of them": [lambda i, k=k: i % 3 == k for k in range(3)],
        "team by team": [lambda i: True, lambda i: True],
    }[how]
    teams = [()] * 3
    if how == "team by team":
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        write(log, [line | {"team": f"t{int(line['request_id'][1:]) % 2}"} for line in lines])
        teams = [("--team", "t1"), ("--team", "t0")]
    found = [
        run("update", bit_by_bit, "--log", parts(tmp_path / f"{k}.jsonl", log, each), *team)
        for k, (each, team) in enumerate(zip(chosen, teams, strict=False))
    ]
    assert sum(each["rows"] for each in found) == learned
    one, other = verify_bundle(whole), verify_bundle(bit_by_bit)
    text = bundle_embedder(one).embed(["Please explain topic number 12345, briefly."])
    assert other.predictor.predict(text) == pytest.approx(one.predictor.predict(text), abs=1e-6)
    # Every third is answered by one model: where the others did not serve, they count as was expected of them then.
    assert other.mean_reward_M == pytest.approx(one.mean_reward_M, abs=0.06 if how == "every third of them" else 0.02)
    for again in (log, tmp_path / "0.jsonl"):
        assert "nothing new" in run("update", bit_by_bit, "--log", again, code=2)["error"]["message"]


def test_however_many_updates_learn_what_routing_gave_a_model_does_not_flatter_it(bundle, tmp_path):
    loaded = load_bundle(bundle)
    texts = [prompt_of(KINDS[i % len(KINDS)], 3000 + i) for i in range(400)]
    expected = loaded.predictor.predict(bundle_embedder(loaded).embed(texts))
    for part in range(4):
        lines = []
        for i in range(part, 400, 4):
            name = loaded.models[expected[i].argmax()]
            made = {"served": name, "chosen": name, "propensity": {name: 1.0}, "prompt": texts[i], "time": NOW + i}
            lines += [decision(f"f{i}", **made), feedback(f"f{i}", float(expected[i].max()))]
        run("update", bundle, "--log", write(tmp_path / f"{part}.jsonl", lines))
    after = load_bundle(bundle)
    assert after.mean_reward_M == pytest.approx(expected.mean(axis=0), abs=0.03)
    assert (after.mean_reward_M < expected.max(axis=1).mean() - 0.1).all()


def test_a_model_that_did_not_serve_has_its_mean_over_the_new_requests_too(bundle, tmp_path):
    before = load_bundle(bundle)
    m, kinds = before.models.index(MODELS[0]), [prompt_of(KINDS[0], 3000 + i) for i in range(300)]
    expected = before.predictor.predict(bundle_embedder(before).embed(kinds)).mean(axis=0)
    served = before.models[int(expected.argmax())]
    made = {"served": served, "chosen": served, "propensity": {served: 1.0}}
    lines = [
        line
        for i, text in enumerate(kinds)
        for line in (decision(f"k{i}", prompt=text, time=NOW + i, **made), feedback(f"k{i}", float(expected.max())))
    ]
    run("update", bundle, "--log", write(tmp_path / "a.jsonl", lines))
    after = load_bundle(bundle)
    for m, name in enumerate(before.models):
        moved = after.mean_reward_M[m] - before.mean_reward_M[m]
        assert np.sign(moved) == np.sign(expected[m] - before.mean_reward_M[m]), name
        assert after.manifest.models[m].rows == before.manifest.models[m].rows or name == served


def test_answers_that_are_held_out_are_never_learned_from(bundle, tmp_path):
    log = log_of(tmp_path / "a.jsonl", bundle, {})
    held = parts(tmp_path / "held.jsonl", log, lambda i: is_held_out(f"r{i}"))
    before = load_bundle(bundle).id
    assert "held out" in run("update", bundle, "--log", held, code=2)["error"]["message"]
    assert load_bundle(bundle).id == before


def test_a_reward_that_no_answer_can_have_moves_nothing(bundle, tmp_path):
    log = log_of(tmp_path / "a.jsonl", bundle, {})
    odd = Path(shutil.copytree(bundle, tmp_path / "odd"))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    some = next(line for line in lines if line["kind"] == "feedback" and not is_held_out(line["request_id"]))
    run("update", bundle, "--log", write(tmp_path / "b.jsonl", [line for line in lines if line is not some]))
    some["reward"] = 3.0
    found = run("update", odd, "--log", write(log, lines))
    assert found["impossible"] == 1
    text = bundle_embedder(load_bundle(odd)).embed(["Please explain topic number 12345, briefly."])
    assert (load_bundle(odd).predictor.predict(text) == load_bundle(bundle).predictor.predict(text)).all()


def test_a_prompt_of_another_group_or_of_a_later_request_is_never_taken_for_a_requests_own(bundle, tmp_path):
    log = log_of(tmp_path / "a.jsonl", bundle, {MODELS[0]: -0.2})
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    others = [line | {"group": "other", "prompt": "Something else."} for line in lines if line["kind"] == "decision"]
    later = [line | {"prompt": "And something else.", "time": line["time"] + 9e4} for line in others]
    later = [line | {"group": "erp-auto"} for line in later]
    mixed = Path(shutil.copytree(bundle, tmp_path / "mixed"))
    run("update", bundle, "--log", log)
    run("update", mixed, "--log", write(tmp_path / "b.jsonl", [*others, *later, *lines]), "--group", "erp-auto")
    text = bundle_embedder(load_bundle(bundle)).embed(["Please explain topic number 12345, briefly."])
    assert (load_bundle(mixed).predictor.predict(text) == load_bundle(bundle).predictor.predict(text)).all()


def test_what_is_worse_on_held_out_requests_is_not_promoted(bundle, tmp_path):
    """Rewards that are noise in what is learned, and as expected in what is held out."""
    log = log_of(tmp_path / "a.jsonl", bundle, {})
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "feedback" and not is_held_out(line["request_id"]):
            line["reward"] += 0.4
    write(log, lines)
    before = load_bundle(bundle).id
    found = run("update", bundle, "--log", log, "--require-better")
    assert not found["promoted"]
    assert load_bundle(bundle).id == before
    assert "no earlier bundle" in run("rollback", bundle, code=2)["error"]["message"]
    assert run("update", bundle, "--log", log)["promoted"]


def test_feedback_in_another_unit_is_refused(bundle, tmp_path):
    log = log_of(tmp_path / "a.jsonl", bundle, dict.fromkeys(MODELS, 50.0))
    assert "another unit" in run("update", bundle, "--log", log, code=2)["error"]["message"]


def test_a_log_without_text_teaches_nothing_and_says_so(bundle, tmp_path):
    log = log_of(tmp_path / "a.jsonl", bundle, {}, prompt=None)
    assert "300 are without the prompt's text" in run("update", bundle, "--log", log, code=2)["error"]["message"]


# --- a model that the bundle does not know


def newcomers_log(path: Path, bundle: Path, n: int, *, good: bool = True) -> Path:
    """Every third request is answered by "new", which earns .95 at one kind of prompts, where it is good, else .05."""
    loaded = load_bundle(bundle)
    texts = [prompt_of(KINDS[i % len(KINDS)], 900 + i) for i in range(n)]
    expected = loaded.predictor.predict(bundle_embedder(loaded).embed(texts))
    lines = []
    for i, text in enumerate(texts):
        is_new = i // len(KINDS) % 3 == 0
        name = "new" if is_new else loaded.models[i % len(loaded.models)]
        reward = (0.95 if good and i % len(KINDS) == 0 else 0.05) if is_new else float(expected[i, i % 3])
        lines.append(
            decision(
                f"n{i}", served=name, chosen=name, propensity={name: 1.0}, prompt=text, time=NOW + i, cost_usd=1e-4
            )
        )
        lines.append(feedback(f"n{i}", reward))
    return write(path, lines)


def test_a_model_that_the_bundle_does_not_know_is_placed_once_the_log_says_enough(bundle, tmp_path):
    before = load_bundle(bundle)
    found = run("update", bundle, "--log", newcomers_log(tmp_path / "a.jsonl", bundle, 60))
    assert found["newcomers"] == []
    assert found["without_sums"] == 21
    [waiting] = found["waiting"]
    assert (waiting["model"], waiting["needed"]) == ("new", 25)
    assert waiting["rows"] < 25
    found = run("update", bundle, "--log", newcomers_log(tmp_path / "b.jsonl", bundle, 600))
    [placed] = found["newcomers"]
    assert placed["model"] == "new"
    assert 120 < placed["rows"] < 200
    after = verify_bundle(bundle)
    m = after.models.index("new")
    assert sorted(after.models) == sorted((*before.models, "new"))
    assert found["without_sums"] == 0
    texts = [prompt_of(kind, 5000 + i) for kind in KINDS for i in range(20)]
    of_new = after.predictor.predict(bundle_embedder(after).embed(texts))[:, m].reshape(len(KINDS), -1).mean(axis=1)
    assert of_new[0] > 0.6
    assert of_new[1:].max() < 0.3
    assert after.manifest.models[m].constant_cost_usd == pytest.approx(1e-4)
    assert after.frontier.chooses("new", 0.0)
    for point in after.frontier.document["points"]:
        assert sum(point["share"].values()) == pytest.approx(1.0)
    others = [after.models.index(name) for name in before.models]
    assert (after.uncertainty.noise_M[others] == before.uncertainty.noise_M).all()
    assert run("rollback", bundle)["id"] != after.id


def test_a_model_that_the_bundle_does_not_know_is_placed_where_nothing_else_is_new(bundle, tmp_path):
    log = newcomers_log(tmp_path / "a.jsonl", bundle, 300)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    its = {line["request_id"] for line in lines if line.get("served") == "new"}
    alone = write(tmp_path / "b.jsonl", [line for line in lines if line["request_id"] in its])
    before = load_bundle(bundle)
    found = run("update", bundle, "--log", alone, "--require-better")
    assert found["promoted"]
    assert [each["model"] for each in found["newcomers"]] == ["new"]
    after = verify_bundle(bundle)
    for m, name in enumerate(before.models):
        assert after.manifest.models[after.models.index(name)].probe == before.manifest.models[m].probe
    assert "nothing new" in run("update", bundle, "--log", alone, code=2)["error"]["message"]


def test_a_placed_model_is_placed_anew_from_a_longer_log_and_left_with_a_shorter_one(bundle, tmp_path):
    run("update", bundle, "--log", newcomers_log(tmp_path / "a.jsonl", bundle, 300))
    first = load_bundle(bundle)
    [placed] = run("update", bundle, "--log", newcomers_log(tmp_path / "b.jsonl", bundle, 600))["newcomers"]
    second = verify_bundle(bundle)
    m = first.models.index("new")
    assert placed["rows"] == second.manifest.models[m].rows > first.manifest.models[m].rows
    lines = newcomers_log(tmp_path / "c.jsonl", bundle, 800, good=False).read_text().splitlines()
    write(tmp_path / "d.jsonl", [json.loads(line) for line in lines if int(json.loads(line)["request_id"][1:]) >= 600])
    assert run("update", bundle, "--log", tmp_path / "d.jsonl")["newcomers"] == []
    assert verify_bundle(bundle).manifest.models[m].probe == second.manifest.models[m].probe
