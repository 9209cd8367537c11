"""A command that is killed goes on where it stopped."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import keras
import pytest

from keras_mmrel.benchmark import run
from keras_mmrel.benchmark._store import Store
from tests.benchmark.helpers import compare
from tests.benchmark.helpers import jobs
from tests.benchmark.helpers import scores
from tests.benchmark.helpers import settings
from tests.benchmark.helpers import tuned
from tests.benchmark.helpers import write

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.config.backend() != "torch",
        reason="nothing here is the backend's, and torch starts fastest",
    ),
    pytest.mark.filterwarnings("ignore:.*no whole run"),
]


def start(config, out):
    """The real command in a process of its own."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-m", "keras_mmrel.benchmark", "run", config,
         "--out", out],
        env={
            **os.environ,
            "KERAS_BACKEND": keras.config.backend(),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def wait_for_lines(process, out, count):
    """Return when the folder holds so many lines, or the process ended."""
    path = out / "runs.jsonl"
    limit = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < limit:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)


def test_a_comparison_that_is_stopped_again_and_again_loses_nothing(tmp_path):
    config = tuned(regimes={"clean": {}}, seeds=4)
    config["training"] = {"epochs": 4, "batch_size": 8}
    whole = compare(tmp_path / "whole", config)
    path = write(tmp_path / "killed", config)
    out = tmp_path / "killed/out"
    chance = random.Random(0)
    for attempt in range(3):
        have = 0
        if (out / "runs.jsonl").exists():
            have = (out / "runs.jsonl").read_bytes().count(b"\n")
        process = start(path, out)
        wait_for_lines(process, out, have + chance.randint(1, 3))
        time.sleep(chance.uniform(0, 0.2))
        if attempt < 2:
            process.kill()
            process.communicate()
            assert process.returncode == -signal.SIGKILL
        else:
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=120)[1]
            # It may be done before the signal comes.
            assert process.returncode in (0, 130), errors
            if process.returncode == 0:
                break
            # Above it may stand what Python says of a finaliser.
            assert errors.strip().splitlines()[-1] == (
                "stopped; the same command goes on from here"
            )
    before = jobs(out)
    process = start(path, out)
    text, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert f"{len(before)} of 8 runs are in" in text
    assert jobs(out)[: len(before)] == before
    assert len(jobs(out)) == len(set(jobs(out))) == 8
    assert scores(out) == scores(whole)


def test_two_processes_killed_at_fifty_moments_lose_and_double_no_run(
    tmp_path,
):
    kills = 50
    config = settings(seeds=15)
    whole = compare(tmp_path / "whole", config)
    path = write(tmp_path / "killed", config)
    out = tmp_path / "killed/out"
    context = multiprocessing.get_context("fork")
    chance = random.Random(1)
    seen = []

    def begin():
        # What a command does once it has imported everything.
        process = context.Process(
            target=run, args=(path, out), kwargs={"verbose": 0}
        )
        process.start()
        return process

    made = 0
    processes = [begin(), begin()]
    while made < kills:
        time.sleep(chance.uniform(0.0, 0.8))
        place = chance.randrange(2)
        if processes[place].is_alive():
            os.kill(processes[place].pid, signal.SIGKILL)
            made += 1
        processes[place].join()
        assert processes[place].exitcode in (0, -signal.SIGKILL)
        processes[place] = begin()
        # What was there stays there, byte for byte.
        if (out / "runs.jsonl").exists():
            found = (out / "runs.jsonl").read_bytes()
            assert found.startswith(b"".join(seen))
            seen = found.splitlines(keepends=True)[:-1]
    for process in processes:
        process.join(600)
        assert process.exitcode == 0
    store = Store(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        records = [r for r in store._parse()[0] if r.kind == "run"]
    assert len(records) == len({r.job for r in records}) == 30
    expected = {r.job: r for r in Store(whole).runs()}
    assert {r.job: r.scores for r in records} == {
        job: r.scores for job, r in expected.items()
    }
    for record in records:
        assert store.kept(record.job).labels.size == 12
    assert not list((out / "claims").glob("*.json"))
