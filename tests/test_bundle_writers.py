"""Writers of one bundle at once, and writers that are killed: real processes, a whole bundle after each."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from erp_trainer.bundles.write import lock_bundle, save_bundle
from litellm_erp.bundle.load import load_bundle, verify_bundle
from litellm_erp.errors import BundleError
from tests.bundles import write_bundle
from tests.planted import planted_rows, write_outcomes

ROOT = Path(__file__).parents[1]
# Holds a bundle's lock, half of a new one beside it, until it is killed or told to go on.
WRITER = """
import sys
from erp_trainer.bundles.records import write_file
from erp_trainer.bundles.write import lock_bundle, replace_bundle
with lock_bundle(sys.argv[1]) as target, replace_bundle(target) as folder:
    write_file(folder, "half", b"x")
    print("writing", flush=True)
    sys.stdin.readline()
"""
# Adds its number to the bundle's own account of who wrote it; slowly, so that writers meet.
COUNTER = """
import shutil, sys, time
from tests.crafted import edit
from erp_trainer.bundles.write import lock_bundle, replace_bundle
from litellm_erp.bundle.load import load_bundle
with lock_bundle(sys.argv[1]) as target:
    seen = dict(load_bundle(target).manifest.created)
    time.sleep(0.05)
    with replace_bundle(target) as folder:
        shutil.copytree(target, folder, dirs_exist_ok=True)
        edit(folder, lambda document: document.update(created={**seen, sys.argv[2]: "was here"}))
"""


def start(script, *arguments, **options):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'trainer'}"}, **pipes)


def erp_train(*arguments):
    return start("from erp_trainer.cli import main; main()", *arguments)


def ended(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def beside(bundle):
    return sorted(path.name for path in bundle.parent.iterdir() if not path.name.endswith(".previous"))


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def writer(bundle):
    process = start(WRITER, bundle)
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.communicate()


def test_another_writer_is_refused_after_its_wait_and_told_who_is_at_work(bundle, writer):
    with pytest.raises(BundleError, match=f"process {writer.pid} has been changing it"), lock_bundle(bundle, 0.3):
        pytest.fail("two writers at once")
    assert load_bundle(bundle).models == ("small", "org/mid", "big")


def test_another_writer_waits_for_the_first_to_end(bundle, writer):
    second = start(COUNTER, bundle, "second")
    assert "waiting for process" in second.stderr.readline()
    writer.communicate("go on\n", timeout=30)
    assert writer.returncode == 1  # half a bundle is none
    assert ended(second)[0] == 0
    assert "second" in load_bundle(bundle).manifest.created
    assert beside(bundle) == ["bundle"]


def test_a_killed_writer_leaves_the_old_bundle_and_the_next_one_cleans_up(bundle, writer):
    before = load_bundle(bundle).id
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(beside(bundle)) == 3  # the bundle, half of a new one, and a lock that nobody holds
    assert load_bundle(bundle).id == before
    with lock_bundle(bundle, 0.0):
        pass
    assert beside(bundle) == ["bundle"]


def test_what_a_living_writer_of_another_bundle_makes_is_left_alone(bundle, writer):
    names = ["bundl", "bundle.new", "bundle-2", "bundle."]
    for name in names:
        write_bundle(bundle.with_name(name))
    assert writer.poll() is None
    assert len(beside(bundle)) == len(names) + 3


def test_folders_that_only_look_like_leftovers_are_left_alone(bundle):
    mine = [".bundle.notes.new", ".bundle-old-abcdefgh", ".bundle.0123456789abcdef.new.txt", ".bundle"]
    for name in mine:
        bundle.with_name(name).mkdir()
    write_bundle(bundle)
    assert beside(bundle) == sorted(["bundle", *mine])


def test_no_change_of_many_writers_at_once_is_lost(bundle):
    writers = [start(COUNTER, bundle, number) for number in range(6)]
    assert [ended(writer)[0] for writer in writers] == [0] * 6
    assert set(load_bundle(bundle).manifest.created) == set(map(str, range(6)))
    assert beside(bundle) == ["bundle"]


def test_a_swap_that_a_kill_cut_in_the_middle_is_undone(bundle):
    # As a file system leaves it that cannot exchange two folders: the old one moved away, the new one not yet there.
    before = load_bundle(bundle).id
    bundle.rename(bundle.with_name(".bundle.0123456789abcdef.old"))
    bundle.with_name(".bundle.fedcba9876543210.new").mkdir()
    with lock_bundle(bundle) as target:
        assert load_bundle(target).id == before
    assert beside(bundle) == ["bundle"]


def test_a_folder_that_is_no_whole_bundle_never_takes_a_bundles_place(bundle):
    before = load_bundle(bundle).id

    def write_without_a_probe():
        with save_bundle(bundle) as folder:
            shutil.copytree(bundle, folder, dirs_exist_ok=True)
            next(folder.glob("probes/big-*")).unlink()

    with pytest.raises(BundleError, match="left as it was"):
        write_without_a_probe()
    assert load_bundle(bundle).id == before
    assert beside(bundle) == ["bundle"]


def test_a_link_to_a_bundle_stays_a_link_and_has_the_bundles_lock(bundle, tmp_path):
    link = tmp_path / "elsewhere" / "current"
    link.parent.mkdir()
    link.symlink_to(bundle)
    with lock_bundle(link), pytest.raises(BundleError, match="has been changing it"), lock_bundle(bundle, 0.0):
        pytest.fail("two writers at once")
    write_bundle(link, models=("only",))
    assert link.is_symlink()
    assert load_bundle(bundle).models == ("only",)
    assert beside(link) == ["current"]


@pytest.mark.parametrize("name", ["b" * 255, "模" * 85, "with space", "new\nline", "[*]"])
def test_a_bundle_may_be_called_what_a_folder_may(tmp_path, name):
    write_bundle(tmp_path / name)
    assert load_bundle(write_bundle(tmp_path / name, models=("only",))).models == ("only",)
    assert beside(tmp_path / name) == [name]


@pytest.mark.parametrize("path", ["b" * 256, "a\0b", "/dev/null/bundle", "/proc/nowhere/bundle"])
def test_a_place_where_nothing_can_be_written_is_one_clear_error(tmp_path, path):
    with pytest.raises(BundleError):
        write_bundle(tmp_path / path)


def test_without_locks_a_writer_goes_on_and_says_so(bundle, monkeypatch, caplog):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    write_bundle(bundle, models=("only",))
    assert load_bundle(bundle).models == ("only",)
    assert "no locks on this file system" in caplog.text
    assert beside(bundle) == ["bundle"]


def test_who_reads_while_a_bundle_is_replaced_gets_the_old_one_or_the_new_one(bundle):
    pools, stop = (("small", "big"), ("large", "mid")), threading.Event()

    def replace_it_again_and_again():
        while not stop.is_set():
            for pool in pools:
                write_bundle(bundle, pool)

    writer = threading.Thread(target=replace_it_again_and_again)
    writer.start()
    found, until_s = [], time.monotonic() + 30
    try:
        while len(found) < 300 or not set(pools) <= set(found):
            assert time.monotonic() < until_s
            found.append(load_bundle(bundle).models)
    finally:
        stop.set()
        writer.join()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run of four models on the same prompts, and a bundle fitted on it; copied by who changes it."""
    folder = tmp_path_factory.mktemp("fitted")
    rows = planted_rows()
    rows += [{**row, "model": "twin"} for row in rows if row["model"] == "mid"]
    outcomes = write_outcomes(folder / "outcomes.jsonl", rows)
    assert ended(erp_train("import", outcomes, "--out", folder / "run"))[0] == 0
    assert ended(erp_train("fit", folder / "run", "--out", folder / "bundle"))[0] == 0
    return folder


@pytest.fixture
def grown(fitted, tmp_path):
    return fitted / "run", shutil.copytree(fitted / "bundle", tmp_path / "bundle")


def test_two_removals_at_once_both_happen(grown):
    run, bundle = grown
    removals = [erp_train("remove-model", bundle, "--run", run, "--model", name) for name in ("mid", "twin")]
    for removal in removals:
        code, _, said = ended(removal)
        assert code == 0, said
    assert verify_bundle(bundle).models == ("big", "small")
    assert beside(bundle) == ["bundle"]


def test_the_same_removal_twice_at_once_is_one_removal_and_one_clear_error(grown):
    run, bundle = grown
    both = [erp_train("remove-model", bundle, "--run", run, "--model", "twin") for _ in range(2)]
    removals = [ended(removal) for removal in both]
    assert sorted(code for code, _, _ in removals) == [0, 2]
    assert sum("no probe of 'twin'" in said for _, _, said in removals) == 1
    assert verify_bundle(bundle).models == ("big", "mid", "small")


def test_adding_removing_and_fitting_at_once_leave_what_some_order_of_them_leaves(grown):
    run, bundle = grown
    assert ended(erp_train("remove-model", bundle, "--run", run, "--model", "twin"))[0] == 0
    writers = [
        erp_train("add-model", bundle, "--run", run, "--model", "twin"),
        erp_train("remove-model", bundle, "--run", run, "--model", "mid"),
        erp_train("fit", run, "--out", bundle),
    ]
    for writer in writers:
        code, _, said = ended(writer)
        assert code in (0, 2), said
        assert "Traceback" not in said
    assert {"big", "small"} <= set(verify_bundle(bundle).models)
    assert beside(bundle) == ["bundle"]


@pytest.mark.parametrize("sign", [".lock", ".new"])
def test_a_removal_killed_at_work_leaves_a_whole_bundle_and_can_be_run_again(grown, sign):
    run, bundle = grown
    before = load_bundle(bundle).id
    process = erp_train("remove-model", bundle, "--run", run, "--model", "mid")
    while process.poll() is None and not any(name.endswith(sign) for name in beside(bundle)):
        time.sleep(1e-3)
    process.kill()
    process.communicate()
    assert verify_bundle(bundle).id == before
    assert beside(bundle) != ["bundle"]
    code, _, said = ended(erp_train("remove-model", bundle, "--run", run, "--model", "mid"))
    assert code == 0, said
    assert "mid" not in verify_bundle(bundle).models
    assert beside(bundle) == ["bundle"]
