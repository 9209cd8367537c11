"""All else that a corruption does is done by NumPy, on one backend's turn."""

import numpy as np
from keras import ops

from keras_mmrel.corruptions import MissingModality
from keras_mmrel.corruptions import ModalityConflict


def test_tensors_are_taken_and_arrays_are_given():
    inputs = {"a": ops.ones((4, 2)), "b": ops.zeros((4, 3))}
    corrupted = MissingModality(1.0, target="a")(inputs)
    np.testing.assert_array_equal(corrupted["a"], np.zeros((4, 2)))
    assert isinstance(corrupted["b"], np.ndarray)


def test_labels_may_be_a_tensor():
    x, y = {"a": np.arange(12.0), "b": np.arange(12.0)}, np.arange(12) % 3
    conflict = ModalityConflict(0.5)
    expected = conflict(x, 1, labels=y)
    received = conflict(x, 1, labels=ops.convert_to_tensor(y))
    for name, values in expected.items():
        np.testing.assert_array_equal(received[name], values)
