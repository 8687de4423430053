"""The decision log on disk: bounded, whole lines, and never in anybody's way."""

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from litellm_erp.decision_log.record import Feedback, Record, parse_line
from litellm_erp.decision_log.writer import DecisionLog
from litellm_erp.errors import SettingsError
from litellm_erp.goals.settings import DecisionLogSettings, parse
from tests.pools import wait_until

SHOUT = "tests.test_decision_log_writer:shout"


def shout(prompt: str) -> str:
    if prompt == "leave":
        sys.exit(3)
    if "secret" in prompt:
        raise ValueError(prompt)
    return prompt.upper()


def log_in(folder: Path, **settings: object) -> DecisionLog:
    return DecisionLog(DecisionLogSettings(folder, **settings))  # type: ignore[arg-type]


def record(i: int, prompt: str | None = None) -> Record:
    return Record(time=1.0, request_id=f"r{i}", group="g", account="team:a", prompt=prompt)


def entries(folder: Path) -> list[Record | Feedback]:
    read = [parse_line(line) for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]
    return [entry for entry in read if entry is not None]


def test_what_is_added_is_written_whole_and_in_order_with_feedback_apart(tmp_path: Path) -> None:
    log = log_in(tmp_path / "log")
    for i in range(2500):
        assert log.add(record(i))
    log.add(Feedback(1.0, "r1", 0.5))
    log.close()
    found = entries(tmp_path / "log")
    assert [e.request_id for e in found if isinstance(e, Record)] == [f"r{i}" for i in range(2500)]
    assert len([path for path in (tmp_path / "log").iterdir() if path.name.startswith("feedback-")]) == 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "log").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700


def test_files_rotate_and_the_oldest_make_room_whoever_wrote_them(tmp_path: Path) -> None:
    for start in (0, 30_000):
        log = log_in(tmp_path, max_mb=1.0, rotate_mb=0.1)
        for i in range(start, start + 6000):
            wait_until(lambda log=log: len(log._queue) < 5000)
            log.add(record(i))
        log.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert sum(sizes) <= 1_000_000
    assert max(sizes) <= 101_000
    assert len(sizes) > 5
    ids = [e.request_id for e in entries(tmp_path)]
    assert ids[-1] == "r35999"
    assert "r0" not in ids


def test_a_folder_that_is_cleaned_up_is_written_to_again(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.add(record(1))
    wait_until(lambda: bool(list(tmp_path.iterdir())))
    for path in tmp_path.iterdir():
        path.unlink()
    log.add(record(2))
    log.close()
    assert [e.request_id for e in entries(tmp_path)] == ["r2"]


def test_a_place_that_cannot_be_written_drops_lines_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    log = log_in(tmp_path / "file")
    assert log.add(record(1))
    log.close()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("limit", [900, 1000, 1001, 1100])
def test_a_full_disk_leaves_whole_lines(tmp_path: Path, limit: int) -> None:
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from tests.test_decision_log_writer import log_in, record\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "log = log_in(Path(sys.argv[1]))\n"
        "for i in range(100): assert log.add(record(i))\n"
        "log.close(); print('goes on')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "goes on\n"
    assert done.stderr.count("cannot be written") <= 1
    assert all(path.read_bytes().endswith(b"\n") or not path.stat().st_size for path in tmp_path.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != limit


def test_a_queue_that_is_full_drops_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_in(tmp_path, prompts=True, redact=SHOUT)
    monkeypatch.setattr("litellm_erp.decision_log.writer._MOST_QUEUED", 10)
    monkeypatch.setattr(log, "_start", lambda: None)
    assert [log.add(record(i)) for i in range(12)] == [True] * 10 + [False] * 2


def test_answers_are_redacted_like_prompts_and_the_loss_of_one_text_is_not_the_others(tmp_path: Path) -> None:
    log = log_in(tmp_path, prompts=True, answers=True, redact=SHOUT)
    log.add(replace(record(0, "a secret"), answer="yes"))
    log.add(replace(record(1, "hello"), answer="a secret"))
    log.add(replace(record(2, "\U0001f600" * 80_000), answer="\U0001f600" * 80_000))
    log.close()
    kept = [(e.prompt, e.answer) for e in entries(tmp_path) if isinstance(e, Record)]
    assert kept[:2] == [(None, "YES"), ("HELLO", None)]
    assert [len(text or "") for text in kept[2]] == [80_000, 80_000]


def test_prompts_are_kept_as_the_redaction_leaves_them_or_not_at_all(tmp_path: Path) -> None:
    log = log_in(tmp_path, prompts=True, redact=SHOUT)
    for i, prompt in enumerate(("hello", "a secret", "\U0001f600" * 80_000, "leave")):
        log.add(record(i, prompt))
    log.close()
    kept = [e.prompt for e in entries(tmp_path) if isinstance(e, Record)]
    assert kept[:2] == ["HELLO", None]
    assert len(kept[2] or "") == 80_000
    assert kept[3:] == [None]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({}, None),
        ({"path": "log"}, None),
        ({"path": "log", "prompts": True, "redact": "none"}, None),
        ({"path": "log", "prompts": True}, "redact"),
        ({"path": "log", "prompts": True, "answers": True, "redact": "none"}, None),
        ({"path": "log", "answers": True, "redact": "none"}, "answers"),
        ({"path": "log", "prompts": True, "redact": "rm -rf"}, "redact"),
        ({"max_mb": 5}, "path"),
        ({"path": "log", "max_mb": 0}, "max_mb"),
        ({"path": "log", "max_mb": 8, "rotate_mb": 5}, "rotate_mb"),
        ({"path": "log", "colour": 1}, "colour"),
    ],
)
def test_settings_of_the_log(stated: dict[str, object], said: str | None) -> None:
    document = {"groups": {"g": {"bundle": "b"}}, "decision_log": stated}
    if said is None:
        parse(document, Path("/etc/config.yaml"))
        return
    with pytest.raises(SettingsError, match=said):
        parse(document, Path("/etc/config.yaml"))


@pytest.mark.parametrize("reference", ["no.such.module:function", "os:no_such", "os:sep"])
def test_a_redaction_that_is_none_stops_the_start(tmp_path: Path, reference: str) -> None:
    with pytest.raises(SettingsError, match="redact"):
        log_in(tmp_path, prompts=True, redact=reference)


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({"mode": "sideways"}, "mode"),
        ({"mode": {"percent": 101}}, "percent"),
        ({"mode": {"percent": True}}, "percent"),
        ({"mode": {"share": 1}}, "mode"),
        ({"mode": {"percent": 1, "salt": "os.environ/NO_SUCH_SALT"}}, "NO_SUCH_SALT"),
        ({"baseline": ""}, "baseline"),
        ({"teams": {"a": {"mode": 7}}}, "teams.a.mode"),
        ({"teams": {"a": {}}}, "teams.a"),
        ({"feedback_range": [1, 0]}, "feedback_range"),
    ],
)
def test_modes_that_make_no_sense_are_one_error(group: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse({"groups": {"g": {"bundle": "b"} | group}}, Path("/etc/config.yaml"))


def test_a_team_takes_over_what_it_does_not_state() -> None:
    groups = {"g": {"bundle": "b", "mode": {"percent": 10, "salt": "s"}, "baseline": "big"}}
    groups["g"]["teams"] = {"a": {"mode": "shadow"}, "b": {"lambda": 1, "baseline": "mid"}}  # type: ignore[assignment]
    group = parse({"groups": groups}, Path("/etc/config.yaml")).groups["g"]
    assert (group.modes["a"].name, group.modes["a"].baseline) == ("shadow", "big")
    assert (group.modes["b"].percent, group.modes["b"].baseline) == (10.0, "mid")
    assert set(group.teams) == {"b"}
    assert "'s'" not in repr(group)


def test_a_greater_share_keeps_those_who_are_routed_and_every_process_agrees() -> None:
    def routed(percent: float) -> set[int]:
        group = {"bundle": "b", "mode": {"percent": percent, "salt": "s"}}
        mode = parse({"groups": {"g": group}}, Path("/c.yaml")).groups["g"].mode
        return {i for i in range(4000) if mode.routes("g", "team:a", f"user:{i}")}

    shares: Callable[[float], set[int]] = routed
    assert shares(10) < shares(25) < shares(60)
    assert abs(len(shares(10)) - 400) < 4 * (4000 * 0.1 * 0.9) ** 0.5
    assert (shares(0), len(shares(100))) == (set(), 4000)


def test_a_thread_is_not_started_before_there_is_something_to_write(tmp_path: Path) -> None:
    log_in(tmp_path / "log").close()
    assert not os.path.lexists(tmp_path / "log")
