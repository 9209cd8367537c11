"""CUB, Wiki and breast TCGA: one file each, real ones and broken ones."""

import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from keras_mmrel import benchmark
from keras_mmrel.datasets import _published_file
from keras_mmrel.datasets import breast_tcga
from keras_mmrel.datasets import cub
from keras_mmrel.datasets import load_breast_tcga
from keras_mmrel.datasets import load_cub
from keras_mmrel.datasets import load_wiki
from keras_mmrel.datasets import wiki

pytestmark = pytest.mark.one_backend

scipy_io = pytest.importorskip("scipy.io")
rdata = pytest.importorskip("rdata")
xarray = pytest.importorskip("xarray")

LOADERS = {
    "cub": (load_cub, cub.NAME),
    "wiki": (load_wiki, wiki.NAME),
    "breast_tcga": (load_breast_tcga, breast_tcga.NAME),
}


def cell(*arrays, shape=(1, -1)):
    entries = np.empty(len(arrays), dtype=object)
    entries[:] = arrays
    return entries.reshape(shape)


def cub_variables():
    rng = np.random.default_rng(0)
    views = [rng.normal(size=(size, 600)) for size in (1024, 300)]
    y = np.repeat(np.arange(1, 11, dtype="uint8"), 60)
    return {"X": cell(*views), "gt": y[:, None]}


def wiki_variables():
    rng = np.random.default_rng(1)
    views = [rng.uniform(size=(size, 2866)) for size in (128, 10)]
    y = (np.arange(2866) % 10 + 1).astype("uint8")[:, None]
    return {
        "data": cell(*views, shape=(-1, 1)),
        "truelabel": cell(y, y),
    }


def breast_objects():
    rng = np.random.default_rng(2)
    study = {}
    for name, rows in breast_tcga.ROWS.items():
        study[name] = {
            modality: rng.normal(size=(rows, size))
            for modality, size in breast_tcga.FEATURES.items()
            if (name, modality) != ("data.test", "protein")
        }
        subtypes = [breast_tcga.CLASSES[i % 3] for i in range(rows)]
        study[name]["subtype"] = np.array(subtypes)
    return {"breast.TCGA": study}


def write(folder, name, content):
    """Write variables in the layout of a data set, or bytes as they are."""
    file = folder / LOADERS[name][1]
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif name == "breast_tcga":
        rdata.write_rda(file, content, compression="xz")
    else:
        scipy_io.savemat(file, content, do_compression=True)
    return file


def content_of(name):
    return {
        "cub": cub_variables,
        "wiki": wiki_variables,
        "breast_tcga": breast_objects,
    }[name]()


@pytest.fixture
def data():
    folder = os.environ.get("KERAS_MMREL_DATA")
    if not folder:
        pytest.skip("KERAS_MMREL_DATA names no folder with data sets")
    return Path(folder)


def published(data, name):
    folder = data / name
    if not (folder / LOADERS[name][1]).is_file():
        pytest.skip(f"KERAS_MMREL_DATA holds no `{name}`")
    return folder


@pytest.mark.parametrize(
    ("name", "features", "rows", "classes"),
    [
        ("cub", cub.FEATURES, (480, 120), 10),
        ("wiki", wiki.FEATURES, (2293, 573), 10),
        ("breast_tcga", breast_tcga.FEATURES, (150, 70), 3),
    ],
)
def test_published_files_give_what_their_loaders_say(
    data, name, features, rows, classes
):
    parts = LOADERS[name][0](published(data, name))
    for (x, y), samples in zip(parts, rows, strict=True):
        mask = x.pop("modality_mask", None)
        assert {k: v.shape for k, v in x.items()} == {
            k: (samples, size) for k, size in features.items()
        }
        assert {v.dtype.name for v in x.values()} == {"float32"}
        assert y.dtype == "int32" and y.shape == (samples,)
        assert sorted(set(y.tolist())) == list(range(classes))
        assert (mask is not None) == (name == "breast_tcga")
        assert all(np.isfinite(v).all() for v in x.values())
    for values in parts[0][0].values():
        assert values.min() == 0.0 and values.max() == 1.0


def test_the_published_classes_are_told_apart(data):
    """By a ridge, as the description of the file has it: 68 of 100."""
    linear = pytest.importorskip("sklearn.linear_model")
    (x, y), (x_test, y_test) = load_wiki(published(data, "wiki"))
    scores = {}
    for names in (["image"], ["text"], ["image", "text"]):
        ridge = linear.RidgeClassifier().fit(
            np.concatenate([x[n] for n in names], axis=1), y
        )
        both = np.concatenate([x_test[n] for n in names], axis=1)
        scores["+".join(names)] = 100 * ridge.score(both, y_test)
    # 25.7, 66.1 and 68.0 on a split of somebody else's.
    assert scores["image"] == pytest.approx(25.7, abs=4)
    assert scores["text"] == pytest.approx(66.1, abs=4)
    assert scores["image+text"] == pytest.approx(68.0, abs=4)


def test_protein_is_missing_from_every_test_sample(data):
    folder = published(data, "breast_tcga")
    (x_train, y_train), (x_test, y_test) = load_breast_tcga(folder)
    np.testing.assert_array_equal(x_train["modality_mask"], np.ones((150, 3)))
    expected = np.tile([1.0, 1.0, 0.0], (70, 1))
    np.testing.assert_array_equal(x_test["modality_mask"], expected)
    assert not x_test["protein"].any()
    assert np.bincount(y_train).tolist() == [45, 30, 75]
    assert np.bincount(y_test).tolist() == [21, 14, 35]


@pytest.mark.parametrize("name", ["cub", "wiki"])
def test_columns_of_the_file_are_samples(name, tmp_path):
    variables = content_of(name)
    file = write(tmp_path, name, variables)
    load = LOADERS[name][0]
    (x_train, y_train), (x_test, y_test) = load(str(tmp_path))
    views, y = list(variables.values())
    y = (y.ravel()[0] if y.dtype == object else y).ravel() - 1
    for values, view in zip(x_train.values(), views.ravel(), strict=True):
        # Each training sample is one column, scaled by all of them.
        low, width = view.min(axis=1), np.ptp(view, axis=1)
        near = ((view - low[:, None]) / width[:, None]).T
        distances = ((near[:, None, :8] - values[None, :40, :8]) ** 2).sum(-1)
        nearest = distances.argmin(axis=0)
        assert distances.min(axis=0).max() < 0.02
        np.testing.assert_array_equal(y[nearest], y_train[:40])
    share = np.bincount(y_test) / np.bincount(y)
    np.testing.assert_allclose(share, 0.2, atol=0.01)
    again = load(file)
    np.testing.assert_array_equal(again[0][1], y_train)
    np.testing.assert_array_equal(again[1][0]["text"], x_test["text"])


def test_breast_tcga_is_scaled_by_its_training_part(tmp_path):
    objects = breast_objects()
    write(tmp_path, "breast_tcga", objects)
    (x_train, y_train), (x_test, y_test) = load_breast_tcga(tmp_path)
    study = objects["breast.TCGA"]
    raw = study["data.train"]["mrna"]
    low, high = raw.min(axis=0), raw.max(axis=0)
    expected = (study["data.test"]["mrna"] - low) / (high - low)
    np.testing.assert_allclose(x_test["mrna"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(y_train, np.arange(150) % 3)
    assert y_test.dtype == "int32" and not x_test["protein"].any()


def change(name, **changes):
    content = content_of(name)
    top = content["breast.TCGA"] if name == "breast_tcga" else content
    for key, value in changes.items():
        if value is None:
            del top[key.replace("data_", "data.")]
        else:
            top[key.replace("data_", "data.")] = value
    return content


def with_nan(name):
    content = content_of(name)
    if name == "breast_tcga":
        content["breast.TCGA"]["data.test"]["mirna"][3, 1] = np.nan
    else:
        next(iter(content.values())).ravel()[1][3, 1] = np.nan
    return content


def other_part(**changes):
    part = dict(breast_objects()["breast.TCGA"]["data.train"])
    for key, value in changes.items():
        if value is None:
            del part[key]
        else:
            part[key] = value
    return change("breast_tcga", data_train=part)


WRONG = {
    "cub: another number of views": (
        "cub",
        lambda: change("cub", X=cell(np.ones((1024, 600)))),
        "1 views, not 2",
    ),
    "cub: rows are samples": (
        "cub",
        lambda: change(
            "cub", X=cell(np.ones((600, 1024)), np.ones((300, 600)))
        ),
        r"'image' of shape \(600, 1024\), not \(1024, 600\)",
    ),
    "cub: no cell": (
        "cub",
        lambda: change("cub", X=np.ones((1024, 600))),
        "1 views, not 2",
    ),
    "cub: an empty cell": ("cub", lambda: change("cub", X=cell()), "'X'"),
    "cub: words": (
        "cub",
        lambda: change("cub", X=cell(np.array(["a"]), np.ones((300, 600)))),
        "not of numbers",
    ),
    "cub: no labels": ("cub", lambda: change("cub", gt=None), "no variable"),
    "cub: labels from 0": (
        "cub",
        lambda: change("cub", gt=np.repeat(np.arange(10), 60)[:, None]),
        r"labels \[0.0\], not integers in \[1, 10\]",
    ),
    "cub: half a label": (
        "cub",
        lambda: change("cub", gt=np.full((600, 1), 1.5)),
        r"labels \[1.5\]",
    ),
    "cub: too few labels": (
        "cub",
        lambda: change("cub", gt=np.ones((599, 1))),
        r"'gt' of shape \(599, 1\)",
    ),
    "cub: NaN": ("cub", lambda: with_nan("cub"), "1 NaN or infinite"),
    "cub: text": ("cub", lambda: b"x" * 4096, "end too early|version 5"),
    "cub: empty": ("cub", lambda: b"", "no MATLAB file"),
    "wiki: NaN": ("wiki", lambda: with_nan("wiki"), "1 NaN or infinite"),
    "wiki: another file": ("wiki", cub_variables, "no variable 'data'"),
    "breast: NaN": (
        "breast_tcga",
        lambda: with_nan("breast_tcga"),
        "1 NaN or infinite values in 'mirna'",
    ),
    "breast: no test part": (
        "breast_tcga",
        lambda: change("breast_tcga", data_test=None),
        "no object 'data.test'",
    ),
    "breast: no protein in training": (
        "breast_tcga",
        lambda: other_part(protein=None),
        "no object 'protein'",
    ),
    "breast: no subtypes": (
        "breast_tcga",
        lambda: other_part(subtype=None),
        "no object 'subtype'",
    ),
    "breast: unknown subtypes": (
        "breast_tcga",
        lambda: other_part(subtype=np.array(["LumB"] * 150)),
        r"subtypes \['LumB'\]",
    ),
    "breast: too few subtypes": (
        "breast_tcga",
        lambda: other_part(subtype=np.array(["LumA"] * 149)),
        "149 subtypes",
    ),
    "breast: another shape": (
        "breast_tcga",
        lambda: other_part(mrna=np.ones((150, 3))),
        r"'mrna' of shape \(150, 3\), not \(150, 200\)",
    ),
    "breast: another object": (
        "breast_tcga",
        lambda: {"other": np.ones(3)},
        "no object 'breast.TCGA'",
    ),
    "breast: a vector": (
        "breast_tcga",
        lambda: {"breast.TCGA": np.ones(3)},
        "no object 'data.train'",
    ),
    "breast: text": ("breast_tcga", lambda: b"x" * 4096, "no R data"),
    "breast: empty": ("breast_tcga", lambda: b"", "no R data"),
    "breast: bomb": (
        "breast_tcga",
        lambda: lzma.compress(bytes(_published_file.LIMIT + 1)),
        "when unpacked",
    ),
    "breast: bomb by gzip": (
        "breast_tcga",
        lambda: gzip.compress(bytes(_published_file.LIMIT + 1)),
        "when unpacked",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_another_content_is_refused_in_one_sentence(case, tmp_path):
    name, content, received = WRONG[case]
    file = write(tmp_path, name, content())
    with pytest.raises(ValueError, match=received) as error:
        LOADERS[name][0](tmp_path)
    message = str(error.value)
    assert str(file) in message and "\n" not in message


def test_a_matlab_bomb_is_refused(tmp_path):
    zeros = np.zeros((1024, _published_file.LIMIT // 8192 + 1))
    file = write(tmp_path, "cub", {"X": zeros, "gt": np.ones((600, 1))})
    assert file.stat().st_size < _published_file.LIMIT / 100
    with pytest.raises(ValueError, match="when unpacked"):
        load_cub(file)


@pytest.mark.parametrize("name", LOADERS)
def test_a_cut_file_is_refused(name, tmp_path):
    file = write(tmp_path, name, content_of(name))
    whole = file.read_bytes()
    for size in (1, 127, 128, 200, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="truncated"):
            LOADERS[name][0](file)


@pytest.mark.parametrize("name", LOADERS)
def test_changed_bytes_never_raise_another_error(name, tmp_path):
    file = write(tmp_path, name, content_of(name))
    whole = bytearray(file.read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(whole), 20).tolist():
        broken = bytearray(whole)
        broken[position] ^= 0xFF
        file.write_bytes(broken)
        try:
            LOADERS[name][0](file)
        except ValueError as error:
            assert "truncated" in str(error)


@pytest.mark.parametrize("name", LOADERS)
def test_a_path_must_hold_the_file(name, tmp_path):
    load, file_name = LOADERS[name]
    for path in (tmp_path, tmp_path / "nowhere", str(tmp_path / "x.mat")):
        with pytest.raises(FileNotFoundError, match=file_name):
            load(path)
    for path in (None, 3, ["a"]):
        with pytest.raises(ValueError, match="`path` must be a path"):
            load(path)


@pytest.mark.parametrize("name", LOADERS)
def test_the_benchmark_knows_the_data_set(name, tmp_path):
    write(tmp_path, name, content_of(name))
    samples = benchmark.Dataset(name, {"path": str(tmp_path)}).load(name)
    assert samples.num_classes == len(set(samples.y.tolist()))
    with pytest.raises(ValueError, match="path` must say where"):
        benchmark.Dataset(name).load(name)
