"""Processes that run at once on one folder share the work."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from keras_mmrel.benchmark import Comparison
from keras_mmrel.benchmark import _claims
from keras_mmrel.benchmark._claims import Claims
from tests.benchmark.helpers import compare
from tests.benchmark.helpers import jobs
from tests.benchmark.helpers import scores
from tests.benchmark.helpers import settings
from tests.benchmark.helpers import tuned
from tests.benchmark.helpers import write
from tests.benchmark.test_kill import start
from tests.benchmark.test_kill import wait_for_lines


def holder(path, **changes):
    """A claim of somebody else, who touched it now."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps(
            {"token": "x", "pid": 1, "host": socket.gethostname(), **changes}
        )
    )


def ended():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_one_holds_a_claim_and_the_next_gets_it_afterwards(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    with first.claim("run") as mine:
        assert mine
        with second.claim("run") as mine:
            assert not mine
        with second.claim("another") as mine:
            assert mine
    with second.claim("run") as mine:
        assert mine
    assert list(tmp_path.iterdir()) == []


def test_a_claim_is_given_back_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with Claims(tmp_path).claim("run"):
            raise KeyboardInterrupt
    with Claims(tmp_path).claim("run") as mine:
        assert mine


def test_the_claim_of_an_ended_process_is_taken_over(tmp_path):
    path = tmp_path / "c/run.json"
    holder(path, pid=ended())
    with Claims(path.parent).claim("run") as mine:
        assert mine
        assert json.loads(path.read_text())["pid"] == os.getpid()
    holder(path, pid=os.getpid())
    with Claims(path.parent).claim("run") as mine:
        assert not mine


def test_on_another_host_the_heart_tells(tmp_path):
    path = tmp_path / "c/run.json"
    holder(path, host="elsewhere", pid=ended())
    with Claims(path.parent).claim("run") as mine:
        assert not mine
    old = time.time() - _claims.STALE - 1
    os.utime(path, (old, old))
    with Claims(path.parent).claim("run") as mine:
        assert mine


def test_a_held_claim_is_touched_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(_claims, "BEAT", 0.02)
    with Claims(tmp_path).claim("run"):
        (path,) = tmp_path.iterdir()
        os.utime(path, (0, 0))
        limit = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < limit:
            time.sleep(0.02)
        assert time.time() - path.stat().st_mtime < 10


def test_what_was_taken_over_is_not_given_back_by_its_first_holder(tmp_path):
    with Claims(tmp_path).claim("run"):
        (path,) = tmp_path.iterdir()
        holder(path)
    assert json.loads(path.read_text())["token"] == "x"


@pytest.mark.one_backend
def test_a_run_that_somebody_makes_is_left_to_them_until_they_end(tmp_path):
    job = Comparison.from_yaml(write(tmp_path, settings())).jobs()[0]
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(5)"]
    )
    # A child that has ended is there until somebody asks for it.
    threading.Thread(target=process.wait, daemon=True).start()
    path = tmp_path / f"out/claims/{job.id}.json"
    path.parent.mkdir(parents=True)
    holder(path, pid=process.pid)
    found = [run[-1] for run in jobs(compare(tmp_path))]
    # The other run came first, and this one was made in the end.
    assert found == ["votes", "LateFusion"]
    assert process.poll() is not None


@pytest.mark.one_backend
@pytest.mark.slow
def test_two_processes_share_the_work_and_one_outlives_the_other(tmp_path):
    config = tuned(regimes={"clean": {}}, seeds=4)
    config["training"] = {"epochs": 20, "batch_size": 4}
    whole = compare(tmp_path / "whole", config)
    path, out = write(tmp_path / "shared", config), tmp_path / "shared/out"
    first, second = start(path, out), start(path, out)
    wait_for_lines(first, out, 6)
    assert first.poll() is None and second.poll() is None
    assert len(list((out / "claims").glob("*.json"))) == 2
    first.send_signal(signal.SIGKILL)
    first.communicate()
    _, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    found = jobs(out)
    assert len(found) == len(set(found)) == 8
    made, alone = scores(out), scores(whole)
    assert {k: v["scores"] for k, v in made.items()} == {
        k: v["scores"] for k, v in alone.items()
    }
    assert not list((out / "claims").glob("*.json"))
