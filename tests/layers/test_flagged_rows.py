"""Costly work is done for flagged rows, and gives what it gives for all."""

import keras
import numpy as np
import pytest

from keras_mmrel.layers._flagged_rows import ROWS
from keras_mmrel.layers._flagged_rows import on_flagged_rows
from tests.helpers import to_numpy

MODALITIES, SIZE = 3, 4


def work(rows):
    return keras.ops.concatenate([2.0 * rows, keras.ops.ones_like(rows)], -1)


class Layer(keras.layers.Layer):
    def call(self, x, flags):
        return on_flagged_rows(work, x, flags > 0, 2 * SIZE)

    def compute_output_shape(self, x_shape, flags_shape):
        return (*x_shape[:-1], 2 * SIZE)


def compiled():
    x = keras.Input((MODALITIES, SIZE), name="x")
    flags = keras.Input((MODALITIES,), name="flags")
    return keras.Model({"x": x, "flags": flags}, Layer()(x, flags))


def batch(count, share):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, MODALITIES, SIZE)).astype("float32")
    return x, rng.random((count, MODALITIES)) < share


@pytest.mark.parametrize("count", [1, ROWS, 3 * ROWS + 5])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_flagged_rows_are_worked_on_at_their_places(count, share):
    x, flags = batch(count, share)
    step = compiled().predict_on_batch({"x": x, "flags": flags.astype("int8")})
    read = on_flagged_rows(
        work, keras.ops.convert_to_tensor(x), flags, 2 * SIZE
    )
    for found in (step, to_numpy(read)):
        assert found.shape == (count, MODALITIES, 2 * SIZE)
        np.testing.assert_array_equal(found[flags][:, :SIZE], 2.0 * x[flags])


def test_rows_that_nobody_flagged_are_left_out():
    x, flags = batch(6 * ROWS, 0.2)
    most = flags.sum(axis=0).max()
    read = on_flagged_rows(
        work, keras.ops.convert_to_tensor(x), flags, 2 * SIZE
    )
    assert to_numpy(read)[:, :, -1].sum() == MODALITIES * most
    step = compiled().predict_on_batch({"x": x, "flags": flags.astype("int8")})
    if keras.config.backend() != "torch":
        most = ROWS * -(-most // ROWS)
    assert step[:, :, -1].sum() == MODALITIES * most
    assert most < len(x)
