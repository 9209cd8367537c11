"""A user's data are read, checked, split and scaled."""

import numpy as np
import pytest

from keras_mmrel.benchmark import Dataset
from keras_mmrel.benchmark._samples import Samples
from keras_mmrel.benchmark._samples import scaled
from keras_mmrel.benchmark._samples import stratified
from tests.benchmark.helpers import arrays
from tests.benchmark.made_data import load
from tests.benchmark.made_data import load_csv
from tests.benchmark.made_data import load_npz


def assert_same(first, second):
    assert list(first.x) == list(second.x)
    for name in first.x:
        np.testing.assert_array_equal(first.x[name], second.x[name])
        assert first.x[name].dtype == second.x[name].dtype
    np.testing.assert_array_equal(first.y, second.y)
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("labels", ["numbers", "texts", "gaps"])
def test_npz_and_csv_of_the_same_data_are_the_same(tmp_path, header, labels):
    x, y = arrays(classes=3)
    names = np.array(["ill", "well", "dead"])
    y = {"numbers": y, "texts": names[y], "gaps": np.array([7, -2, 40])[y]}[
        labels
    ]
    assert_same(
        load_npz(tmp_path, x, y), load_csv(tmp_path, x, y, header=header)
    )


def test_texts_and_gaps_become_class_numbers_in_their_order(tmp_path):
    x, _ = arrays(samples=6)
    texts = np.array(["b", "a", "c", "a", "b", "c"])
    found = load_npz(tmp_path, x, texts)
    assert found.y.tolist() == [1, 0, 2, 0, 1, 2] and found.num_classes == 3
    gaps = load_npz(tmp_path, x, np.array([5, -1, 9, -1, 5, 9]))
    assert gaps.y.tolist() == found.y.tolist()
    truths = load_npz(tmp_path, x, np.array([True, False] * 3))
    assert truths.y.tolist() == [1, 0] * 3


def test_paths_begin_at_the_folder_of_the_config(tmp_path, monkeypatch):
    x, y = arrays()
    inner = tmp_path / "configs"
    (inner / "sets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    np.savez(inner / "sets/d.npz", **x, y=y)
    found = load(inner, source="npz", path="sets/d.npz")
    assert_same(found, load_npz(tmp_path, x, y))
    absolute = load(inner, source="npz", path=str(inner / "sets/d.npz"))
    assert_same(found, absolute)


def test_labels_and_modalities_of_an_npz_may_have_any_name(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "d.npz", a=x["a"], b=x["b"], other=y, class_=y)
    found = load(
        tmp_path,
        source="npz",
        path="d.npz",
        labels="class_",
        modalities=["b", "a"],
    )
    assert list(found.x) == ["b", "a"]
    np.testing.assert_array_equal(found.y, y)


def test_an_image_keeps_its_shape_and_is_scaled_as_a_whole(tmp_path):
    x, y = arrays()
    rng = np.random.default_rng(0)
    x["image"] = rng.integers(0, 256, (len(y), 6, 5, 1), "uint8")
    (train, _), (test, _) = load_npz(tmp_path, x, y).parts(0)
    assert train["image"].shape[1:] == test["image"].shape[1:] == (6, 5, 1)
    assert train["image"].dtype == np.float32
    assert train["image"].min() == 0 and train["image"].max() == 1
    # Feature by feature the extremes would be everywhere.
    assert (train["image"].max(axis=0) < 1).any()


def test_a_vector_is_scaled_feature_by_feature(tmp_path):
    x, y = arrays()
    (train, _), _ = load_npz(tmp_path, x, y).parts(0)
    for values in train.values():
        np.testing.assert_allclose(values.min(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(values.max(axis=0), 1, atol=1e-6)


def test_without_scaling_the_values_are_the_users(tmp_path):
    x, y = arrays()
    dataset = load_npz(tmp_path, x, y, scale="none")
    first, second = dataset.rows(3)
    (train, y_train), (test, y_test) = dataset.parts(3)
    for name in x:
        np.testing.assert_array_equal(train[name], x[name][first])
        np.testing.assert_array_equal(test[name], x[name][second])
    np.testing.assert_array_equal(y_train, y[first])
    np.testing.assert_array_equal(y_test, y[second])


def test_test_rows_cannot_change_the_training_part(tmp_path):
    x, y = arrays()
    before = load_npz(tmp_path, x, y)
    _, second = before.rows(0)
    changed = {name: values.copy() for name, values in x.items()}
    for values in changed.values():
        values[second] = 1e6
    after = load_npz(tmp_path, changed, y)
    (train, y_train), (test, _) = before.parts(0)
    (train_after, y_after), (test_after, _) = after.parts(0)
    for name in x:
        np.testing.assert_array_equal(train[name], train_after[name])
        assert (test[name] != test_after[name]).all()
    np.testing.assert_array_equal(y_train, y_after)


def test_a_feature_that_is_constant_in_training_is_not_blown_up():
    training = np.zeros((5, 2), "float32")
    training[:, 1] = np.arange(5)
    values = np.array([[1.0, 2.0]], "float32")
    assert scaled(training, values).tolist() == [[1.0, 0.5]]


def test_parts_hold_every_row_once_in_the_fractions_of_the_classes():
    y = np.repeat([0, 1, 2], [60, 30, 10])
    first, second = stratified(y, 0.3, 0)
    assert sorted([*first, *second]) == list(range(100))
    assert np.bincount(y[second]).tolist() == [18, 9, 3]


def test_splits_are_those_of_the_seed(tmp_path):
    dataset = load_npz(tmp_path, *arrays())
    again = load_npz(tmp_path, *arrays())
    seen = []
    for seed in range(4):
        first, second = dataset.rows(seed)
        np.testing.assert_array_equal(first, again.rows(seed)[0])
        np.testing.assert_array_equal(second, again.rows(seed)[1])
        seen.append(tuple(sorted(second)))
    assert len(set(seen)) == 4


def test_the_test_fraction_is_the_users(tmp_path):
    dataset = load_npz(tmp_path, *arrays(), test_fraction=0.5)
    assert [len(rows) for rows in dataset.rows(0)] == [20, 20]
    assert [len(r) for r in load_npz(tmp_path, *arrays()).rows(0)] == [28, 12]


def test_a_published_split_is_the_same_for_every_seed():
    x, y = arrays()
    dataset = Samples("d", x, y, 30, 0.25, "none")
    for seed in range(3):
        first, second = dataset.rows(seed)
        assert first.tolist() == list(range(30))
        assert second.tolist() == list(range(30, 40))


def test_a_fingerprint_changes_with_any_value(tmp_path):
    x, y = arrays()
    seen = {load_npz(tmp_path, x, y).fingerprint}
    for name, row in (("a", 0), ("a", 39), ("b", 17)):
        other = {k: v.copy() for k, v in x.items()}
        other[name][row, -1] = np.nextafter(other[name][row, -1], np.inf)
        seen.add(load_npz(tmp_path, other, y).fingerprint)
    labels = y.copy()
    labels[5] = 1 - labels[5]
    seen.add(load_npz(tmp_path, x, labels).fingerprint)
    seen.add(load_npz(tmp_path, {"c": x["a"], "b": x["b"]}, y).fingerprint)
    assert len(seen) == 6


def test_a_function_with_two_parts_has_a_split_of_its_own():
    x, y = arrays()
    first = ({k: v[:30] for k, v in x.items()}, y[:30])
    second = ({k: v[30:] for k, v in x.items()}, y[30:])
    whole = Dataset(lambda: (x, y), scale="none").load("d")
    published = Dataset(lambda: (first, second), scale="none").load("d")
    with_validation = Dataset(lambda: (first, second, second)).load("d")
    assert_same(whole, published)
    assert whole.published is None
    assert published.published == with_validation.published == 30
    again = Dataset(lambda: (first, second), split="resampled").load("d")
    assert again.published is None and again.test_fraction == 0.25
    assert [len(rows) for rows in again.rows(0)] == [30, 10]


def test_a_fold_and_options_reach_the_function():
    x, y = arrays()
    seen = []

    def load(fold, deep):
        seen.append((fold, deep))
        return x, y

    dataset = Dataset(load, {"deep": True}, folds=(0, "b"))
    for fold in dataset.folds:
        dataset.load("d", fold)
    assert seen == [(0, True), ("b", True)]


def test_one_hot_labels_are_class_numbers():
    x, y = arrays(classes=3)
    rows = np.eye(3)[y]
    found = Dataset(lambda: (x, rows)).load("d")
    np.testing.assert_array_equal(found.y, y)


def test_what_is_missing_may_be_nan_and_its_mask_is_not_scaled():
    x, y = arrays()
    mask = np.ones((40, 2), "float32")
    mask[3, 0] = 0
    x["a"][3] = np.nan
    found = Dataset(lambda: ({**x, "modality_mask": mask}, y)).load("d")
    assert np.isfinite(found.x["a"]).all()
    (train, _), (test, _) = found.parts(0)
    masks = np.concatenate([train["modality_mask"], test["modality_mask"]])
    assert masks.sum() == 79
    x["b"][3] = np.nan
    with pytest.raises(ValueError, match="finite numbers in modality 'b'"):
        Dataset(lambda: ({**x, "modality_mask": mask}, y)).load("d")


@pytest.mark.parametrize("made", [3, (1, 2, 3), [], ({}, 1, 2)])
def test_a_function_that_returns_no_data_is_refused(made):
    with pytest.raises(ValueError, match=r"datasets\.d\.source` must"):
        Dataset(lambda: made).load("d")


def test_a_published_split_must_be_there():
    x, y = arrays()
    with pytest.raises(ValueError, match=r"datasets\.d\.split` must be"):
        Dataset(lambda: (x, y), split="published").load("d")
