"""HandWritten, PIE and Scene15: downloads, broken files, and the real ones."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_mmrel import benchmark
from keras_mmrel.datasets import load_handwritten
from keras_mmrel.datasets import load_pie
from keras_mmrel.datasets import load_scene15
from keras_mmrel.datasets._multi_view import load_multi_view
from keras_mmrel.datasets.handwritten import HANDWRITTEN
from keras_mmrel.datasets.pie import PIE
from keras_mmrel.datasets.scene15 import SCENE15

pytestmark = pytest.mark.one_backend

scipy_io = pytest.importorskip("scipy.io")

LOADERS = {
    "handwritten": (load_handwritten, HANDWRITTEN),
    "pie": (load_pie, PIE),
    "scene15": (load_scene15, SCENE15),
}


def made(known, first=None):
    """Variables in the layout of a published file."""
    rng = np.random.default_rng(0)
    views = np.empty((1, len(known.features)), object)
    for place, size in enumerate(known.features.values()):
        view = rng.integers(0, 250, (known.samples, size)).astype("uint8")
        # The first one is of small integers, as pixels are.
        view = view if place == 0 else view / 7.0
        views[0, place] = view if known.rows else view.T
    y = np.arange(known.samples) % known.num_classes
    first = known.first if first is None else first
    return {"X": views, known.labels: (y + first).astype("uint8")[:, None]}


def write(folder, known, variables):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / known.file
    scipy_io.savemat(file, variables, do_compression=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return file, replace(known, sha256=digest)


@pytest.mark.parametrize("name", LOADERS)
def test_rows_are_samples_whatever_the_file_has(name, tmp_path):
    load, known = LOADERS[name]
    variables = made(known)
    write(tmp_path, known, variables)
    (x_train, y_train), (x_test, y_test) = load(str(tmp_path))
    assert {k: v.shape[1] for k, v in x_train.items()} == known.features
    assert len(y_test) == known.samples // 5
    assert len(y_train) == known.samples - known.samples // 5
    assert y_train.dtype == "int32" and set(y_train) == set(y_test)
    assert set(y_train) == set(range(known.num_classes))
    first = next(iter(x_train))
    raw = variables["X"][0, 0] if known.rows else variables["X"][0, 0].T
    raw = raw.astype(float)
    unit = (raw - raw.min(axis=0)) / np.ptp(raw, axis=0)
    # Scaled by the training part, which has nearly the range of all.
    distances = np.abs(unit[:, None, :16] - x_train[first][None, :20, :16])
    nearest = distances.mean(axis=-1).argmin(axis=0)
    assert distances.mean(axis=-1).min(axis=0).max() < 0.02
    expected = nearest % known.num_classes
    np.testing.assert_array_equal(y_train[:20], expected)
    assert {v.dtype.name for v in x_train.values()} == {"float32"}
    assert all(v.min() == 0 and v.max() == 1 for v in x_train.values())


@pytest.mark.parametrize("name", LOADERS)
def test_a_download_equals_the_file_and_serves_offline(name, tmp_path, server):
    known = LOADERS[name][1]
    file, known = write(tmp_path / "served", known, made(known))
    (x, y), _ = load_multi_view(known, None, server.url)
    (x_file, y_file), _ = load_multi_view(known, file)
    np.testing.assert_array_equal(y, y_file)
    for view, values in x.items():
        np.testing.assert_array_equal(values, x_file[view])
    file.unlink()
    load_multi_view(known, None, server.url)
    assert server.requests == [f"/{known.file}"]


def test_a_download_that_ends_early_or_differs_is_not_kept(tmp_path, server):
    file, known = write(tmp_path / "served", PIE, made(PIE))
    server.cut[known.file] = 100
    with pytest.raises(OSError, match="must be served in full"):
        load_multi_view(known, None, server.url)
    server.cut.clear()
    with pytest.raises(ValueError, match="SHA-256"):
        load_multi_view(PIE, None, server.url)
    assert not list(server.cache.rglob("*.mat"))
    load_multi_view(known, None, server.url)
    assert [f.name for f in server.cache.rglob("*.mat")] == [file.name]


@pytest.mark.parametrize(
    ("name", "change", "received"),
    [
        (
            "handwritten",
            {"first": 1},
            r"labels \[10.0\], not integers in \[0, 9",
        ),
        ("pie", {"first": 0}, r"labels \[0.0\], not integers in \[1, 68"),
        ("scene15", {"first": 2}, r"labels \[16.0\], not integers in \[1, 15"),
    ],
)
def test_classes_count_from_the_published_number(
    name, change, received, tmp_path
):
    load, known = LOADERS[name]
    write(tmp_path, known, made(known, **change))
    with pytest.raises(ValueError, match=received):
        load(tmp_path)


def test_the_other_orientation_is_refused(tmp_path):
    other = replace(HANDWRITTEN, rows=False)
    write(tmp_path, HANDWRITTEN, made(other))
    with pytest.raises(
        ValueError, match=r"shape \(240, 2000\), not \(2000, 240"
    ):
        load_handwritten(tmp_path)


@pytest.mark.parametrize("name", LOADERS)
def test_a_path_must_hold_the_file(name, tmp_path):
    load, known = LOADERS[name]
    with pytest.raises(FileNotFoundError, match=known.file):
        load(tmp_path)
    with pytest.raises(ValueError, match="`path` must be"):
        load(3)


@pytest.mark.parametrize("name", LOADERS)
def test_the_benchmark_knows_the_data_set(name, tmp_path):
    known = LOADERS[name][1]
    write(tmp_path, known, made(known))
    samples = benchmark.Dataset(name, {"path": str(tmp_path)}).load(name)
    assert samples.num_classes == known.num_classes
    assert list(samples.x) == list(known.features)


@pytest.mark.parametrize("name", LOADERS)
def test_the_published_file(name):
    load, known = LOADERS[name]
    folder = Path(os.environ.get("KERAS_MMREL_DATA") or "") / name
    if not (folder / known.file).is_file():
        pytest.skip(f"KERAS_MMREL_DATA holds no `{name}/{known.file}`")
    digest = hashlib.sha256((folder / known.file).read_bytes()).hexdigest()
    assert digest == known.sha256
    (x_train, _), _ = load(folder)
    assert all(v.min() == 0 and v.max() == 1 for v in x_train.values())
