"""A folder that takes no more says so, and holds what it held."""

import contextlib
import json
import os
import resource
import subprocess
import warnings

import pytest

from keras_mmrel.benchmark import report
from keras_mmrel.benchmark import run
from keras_mmrel.benchmark.__main__ import main
from keras_mmrel.benchmark._claims import Claims
from keras_mmrel.benchmark._store import Store
from keras_mmrel.benchmark._whole import write_whole
from tests.benchmark.helpers import compare
from tests.benchmark.helpers import files
from tests.benchmark.helpers import jobs
from tests.benchmark.helpers import lines
from tests.benchmark.helpers import one_sentence
from tests.benchmark.helpers import scores
from tests.benchmark.helpers import settings
from tests.benchmark.helpers import write

pytestmark = pytest.mark.one_backend

KILOBYTE = 1024


@pytest.fixture
def disk(tmp_path):
    """A folder on a disk of its own, of 400 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def files_up_to(size):
    """Let no file of this process grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fails(capsys, reason, *arguments):
    """The command ends with code 2 and one sentence about the folder."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    text = capsys.readouterr().err
    assert one_sentence(text), text
    assert text.startswith("error: `folder` must be a folder that can be")
    assert reason in text


def works(*arguments):
    assert main([str(a) for a in arguments]) == 0


def fill(folder, left):
    """Fill a disk but for some bytes."""
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize - left
    (folder / "filler").write_bytes(bytes(max(0, free)))


def test_a_full_disk_loses_no_run_and_repeats_none(disk, tmp_path, capsys):
    config = settings(seeds=3)
    path = write(tmp_path / "config", config)
    whole = compare(tmp_path / "whole", config)
    out = disk / "out"
    run_it = ("run", path, "--out", out)
    seen = []
    # Full from the start, after the config, in the middle of the runs.
    for left in (0, 12 * KILOBYTE, 28 * KILOBYTE):
        fill(disk, left)
        fails(capsys, "No space left on device", *run_it)
        assert not list(disk.rglob("*.part"))
        found = jobs_of(out)
        assert found[: len(seen)] == seen
        seen = found
        (disk / "filler").unlink()
    assert 0 < len(seen) < 6
    works(*run_it)
    assert jobs_of(out)[: len(seen)] == seen
    assert len(jobs(out)) == len(set(jobs(out))) == 6
    assert scores(out) == scores(whole)
    fill(disk, 4 * KILOBYTE)
    before = files(out)
    fails(capsys, "No space left on device", "report", out)
    assert {k: v for k, v in files(out).items() if k in before} == before


def test_files_that_may_not_grow_lose_no_run_and_repeat_none(tmp_path, capsys):
    config = settings(seeds=3)
    path = write(tmp_path, config)
    whole = compare(tmp_path / "whole", config)
    sizes = {name: len(content) for name, content in files(whole).items()}
    lines_of_all = sizes.pop("runs.jsonl")
    others = max(sizes.values())
    assert others < lines_of_all
    out = tmp_path / "out"
    run_it = ("run", path, "--out", out)
    with files_up_to(1000):
        fails(capsys, "File too large", *run_it)
    assert jobs_of(out) == []
    # Most lines fit, and one of them in part.
    with files_up_to((others + lines_of_all) // 2):
        fails(capsys, "of a run fitted", *run_it)
    seen = jobs_of(out)
    assert 0 < len(seen) < 6
    with pytest.warns(UserWarning, match="no whole run"):
        works(*run_it)
    assert jobs_of(out)[: len(seen)] == seen
    assert len(jobs_of(out)) == len(set(jobs_of(out))) == 6
    assert {run.job: run.scores for run in runs_of(out)} == {
        run.job: run.scores for run in runs_of(whole)
    }


def runs_of(out):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Store(out).runs()


def jobs_of(out):
    return [run.job for run in runs_of(out)]


def test_a_folder_that_is_read_only_says_so(disk, tmp_path, capsys):
    path = write(tmp_path / "config", settings(seeds=2))
    few = write(tmp_path / "few", settings(seeds=1))
    out = disk / "out"
    works("run", few, "--out", out)
    before = files(out)
    options = ["mount", "-o", "remount,ro", str(disk)]
    subprocess.run(options, check=True)
    reason = "Read-only file system"
    fails(capsys, reason, "run", path, "--out", out)
    fails(capsys, reason, "report", out)
    fails(capsys, reason, "run", path, "--out", disk / "new")
    assert files(out) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_says_so(tmp_path):
    out = compare(tmp_path)
    out.chmod(0o500)
    try:
        with pytest.raises(OSError, match="`folder` must .*Permission"):
            report(out)
    finally:
        out.chmod(0o700)


def test_a_file_where_a_folder_should_be_says_so(tmp_path):
    path = write(tmp_path)
    for out in (path, path / "out"):
        with pytest.raises(OSError, match="^`folder` must be a folder"):
            run(path, out, verbose=0)


def test_a_file_is_there_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, b"first")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "folder", b"second")
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no/such", b"third")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "folder"]
    assert path.read_bytes() == b"first"


def test_what_a_kill_has_left_is_swept_an_hour_later(tmp_path):
    out = compare(tmp_path)
    left = [
        out / "predictions/x.npz.abc.part",
        out / "claims/run.abc.old",
        out / "config.json.abc.part",
    ]
    for path in left:
        path.write_bytes(b"cut")
    compare(tmp_path)
    assert all(path.exists() for path in left)
    for path in left:
        os.utime(path, (0, 0))
    compare(tmp_path)
    assert not any(path.exists() for path in left)
    assert len(lines(out, "run")) == 2


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "3", '{"pid": "x"}']
)
def test_a_damaged_claim_is_taken_over_in_time(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)
    with Claims(tmp_path).claim("run") as mine:
        assert not mine
    os.utime(path, (0, 0))
    with Claims(tmp_path).claim("run") as mine:
        assert mine
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_line_that_fits_in_part_is_an_error(tmp_path):
    """Such as `write` of the system may leave it on a disk that gets full."""
    store = Store(tmp_path)
    big = {"kind": "environment", "id": "x", "text": "y" * 5000}

    with files_up_to(2000), pytest.raises(OSError, match="2000 of 5047 bytes"):
        store.add(big)
    store.add({"kind": "environment", "id": "z"})
    with pytest.warns(UserWarning, match=r"no whole run, \[1\]"):
        assert list(store.environments()) == ["z"]
