"""A folder is never spoilt: not by other settings, nor by a cut line."""

import shutil

import pytest

from keras_mmrel.benchmark import run
from tests.benchmark.helpers import arrays
from tests.benchmark.helpers import compare
from tests.benchmark.helpers import files
from tests.benchmark.helpers import lines
from tests.benchmark.helpers import scores
from tests.benchmark.helpers import settings
from tests.benchmark.helpers import write

pytestmark = pytest.mark.one_backend


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Folder of a config and, in it, of its results."""
    folder = tmp_path_factory.mktemp("small")
    compare(folder)
    return folder


@pytest.fixture
def copied(small, tmp_path):
    return shutil.copytree(small, tmp_path / "copy")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"training": {"epochs": 9}}, "training"),
        ({"tuning": {"fraction": 0.5}}, "tuning"),
        ({"evaluation": {"bins": 7}}, "evaluation"),
        ({"methods": {"votes": {"model": "ConcatFusion"}}}, "methods.votes"),
        ({"regimes": {"clean": {"noise_probability": 1}}}, "regimes.clean"),
        (
            {"datasets": {"tiny": {"source": "npz", "path": "t.npz"}}},
            "datasets.tiny",
        ),
    ],
)
def test_other_settings_are_refused_and_nothing_is_touched(
    copied, changes, key
):
    before = files(copied / "out")
    path = write(copied, settings(**changes))
    (copied / "tiny.npz").rename(copied / "t.npz")
    shutil.copy(copied / "t.npz", copied / "tiny.npz")
    with pytest.raises(ValueError, match=f"`folder` must .*`{key}`.*Received"):
        run(path, copied / "out", verbose=0)
    assert files(copied / "out") == before


def test_other_data_are_refused_and_nothing_is_touched(copied):
    before = files(copied / "out")
    methods = {**settings()["methods"], "ConcatFusion": {}}
    path = write(copied, settings(methods=methods), arrays(seed=1))
    with pytest.raises(ValueError, match="other data of 'tiny'"):
        run(path, copied / "out", verbose=0)
    assert files(copied / "out") == before


def test_tuning_on_other_data_is_refused_too(tmp_path):
    grid = {"learning_rate": [0.01, 0.1]}
    tuning = {"repeats": 1, "grid": grid}
    config = settings(methods=["LateFusion"], tuning=tuning)
    out = compare(tmp_path, config)
    # As after a kill before the first run was whole.
    path = out / "runs.jsonl"
    kept = path.read_text().splitlines()[:-1]
    assert [r["kind"] for r in lines(out)][:-1] == [
        "environment",
        "tuning",
        "tuning",
    ]
    path.write_text("\n".join(kept) + "\n")
    before = files(out)
    changed = write(tmp_path, config, arrays(seed=1))
    with pytest.raises(ValueError, match="other data of 'tiny'"):
        run(changed, out, verbose=0)
    assert files(out) == before


def test_runs_without_their_config_are_refused(copied):
    (copied / "out/config.json").unlink()
    with pytest.raises(ValueError, match="without config.json"):
        run(copied / "config.yaml", copied / "out", verbose=0)


def test_a_damaged_config_of_the_folder_is_named(copied):
    path = copied / "out/config.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(ValueError, match="config.json must be the whole file"):
        run(copied / "config.yaml", copied / "out", verbose=0)


@pytest.mark.parametrize("left", [1, 100, -1])
def test_a_cut_line_is_repeated_and_no_run_is_lost(copied, left):
    path = copied / "out/runs.jsonl"
    before = scores(copied / "out")
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:-1]) + whole[-1].rstrip()[:left])
    with pytest.warns(UserWarning, match=rf"no whole run, \[{len(whole)}\]"):
        run(copied / "config.yaml", copied / "out", verbose=0)
    text = path.read_text().splitlines()
    assert text[: len(whole) - 1] == [t.decode().strip() for t in whole[:-1]]
    path.write_text(
        "\n".join(text[: len(whole) - 1] + text[len(whole) :]) + "\n"
    )
    assert scores(copied / "out") == before


def test_a_last_line_without_its_end_counts(copied):
    path = copied / "out/runs.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    before = path.read_bytes()
    run(copied / "config.yaml", copied / "out", verbose=0)
    assert path.read_bytes() == before
