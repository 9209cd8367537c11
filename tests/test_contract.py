"""What every part of the library agrees on."""

import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel import contract

ROWS = np.eye(3, dtype="float32")


@pytest.mark.parametrize(
    "value",
    [
        ROWS,
        ROWS.tolist(),
        ops.convert_to_tensor(ROWS),
        keras.Variable(ROWS),
    ],
    ids=["array", "list", "tensor", "variable"],
)
def test_everything_array_like_becomes_an_array(value):
    array = contract.to_numpy(value)
    assert type(array) is np.ndarray
    np.testing.assert_array_equal(array, ROWS)


def test_an_array_is_not_copied():
    assert contract.to_numpy(ROWS) is ROWS


@pytest.mark.parametrize(
    "labels", [np.array([2, 0, 1]), np.array([[2], [0], [1]]), ROWS[[2, 0, 1]]]
)
def test_labels_are_numbers_or_rows_alike(labels):
    expected = [2, 0, 1]
    one_hot = ops.convert_to_numpy(contract.one_hot_labels(labels, 3))
    np.testing.assert_array_equal(one_hot, ROWS[expected])
    numbers = ops.convert_to_numpy(contract.class_numbers(labels, 3))
    np.testing.assert_array_equal(numbers, expected)
    checked = contract.check_labels(labels, 3, samples=3)
    assert checked.dtype == np.int64
    np.testing.assert_array_equal(checked, expected)


@pytest.mark.parametrize(
    "labels, text",
    [
        ([0, 1, 2], "must be an array or a tensor. Received: list"),
        (np.array([0, 1]), "2 labels for 3 samples"),
        (np.array(1), "0 labels for 3 samples"),
        (np.array([0, 1, 3]), r"\[0, 3\). Received: values from 0 to 3"),
        (np.array([-1, 1, 2]), "values from -1 to 2"),
        (np.array([0.0, 1.0, 2.0]), "y.dtype=float64"),
        (np.array(["a", "b", "c"]), "y.dtype=<U1"),
        (np.eye(4)[:3], "must have 3 columns"),
        (ROWS * 2, "rows that sum to 1"),
        (ROWS * np.nan, "rows that sum to 1"),
        (np.full((3, 3), "a"), "y.dtype=<U1"),
        (0.5 * ROWS + 0.5 / 3, "Received: soft rows"),
    ],
)
def test_bad_labels_are_named(labels, text):
    with pytest.raises(ValueError, match=text):
        contract.check_labels(labels, 3, samples=3)


def test_soft_rows_are_taken_where_they_may_be():
    soft = 0.6 * ROWS + 0.4 / 3
    np.testing.assert_array_equal(
        contract.check_labels(soft, 3, soft=True), [0, 1, 2]
    )


def test_a_mask_holds_zeros_and_ones():
    mask = contract.check_mask_values(np.array([[0.0, 1.0]]))
    assert mask.dtype == bool
    for bad in (0.5, np.nan, 2.0, -1.0):
        with pytest.raises(ValueError, match="only 0 .missing. and 1"):
            contract.check_mask_values(np.array([[bad, 1.0]]))


def test_a_function_and_its_module_do_not_share_a_name():
    shared = []
    for info in pkgutil.walk_packages(keras_mmrel.__path__, "keras_mmrel."):
        if info.name.endswith("__main__") or ".backend." in info.name:
            continue
        module = importlib.import_module(info.name)
        name = info.name.rpartition(".")[2]
        if name.startswith("_"):
            continue
        if inspect.isfunction(getattr(module, name, None)):
            shared.append(info.name)
    assert shared == []


@pytest.mark.one_backend
def test_the_message_about_a_large_label_tells_it():
    y = np.array([0, 2**63], dtype="uint64")
    with pytest.raises(ValueError, match="`y`.*from 0 to 9223372036854775808"):
        contract.read_tables({"a": ROWS[:2]}, y)
    with pytest.raises(ValueError, match="`y`.*from 0 to 9223372036854775808"):
        contract.check_labels(y, 3)
    _, y, _ = contract.read_tables({"a": ROWS}, np.arange(3, dtype="uint64"))
    assert y.dtype == np.int64


@pytest.mark.one_backend
def test_masked_entries_are_advised_about_by_what_they_are_in():
    y = np.ma.masked_equal(np.array([0, 1, 2]), 2)
    for call in (
        lambda: contract.read_tables({"a": ROWS}, y),
        lambda: contract.check_labels(y, 3),
    ):
        with pytest.raises(ValueError, match="`y`.*leave their") as error:
            call()
        assert "modality_mask" not in str(error.value)
    hidden = np.ma.masked_equal(ROWS, 1)
    with pytest.raises(ValueError, match="'modality_mask' to 0"):
        contract.read_tables({"a": hidden}, np.arange(3))


@pytest.mark.one_backend
@pytest.mark.parametrize("path", [None, 3, "", [], b""])
def test_a_path_is_a_path(path):
    with pytest.raises(ValueError, match="`p` must be a path. Received: p="):
        contract.as_path("p", path)
