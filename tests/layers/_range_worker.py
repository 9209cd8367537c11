"""What `test_range_control.py` trains on two devices."""

import keras
import numpy as np

from keras_mmrel.layers import RangeControl

RNG = np.random.default_rng(0)
X = {
    "a": RNG.normal(size=(24, 5)).astype("float32"),
    "b": RNG.normal(size=(24, 3, 2)).astype("float32"),
}
# Every step's first half is low, and the second high.
X["a"] += np.where(np.arange(24) % 12 < 6, -9, 9).astype("float32")[:, None]
X["modality_mask"] = np.ones((24, 2), "float32")
X["modality_mask"][[1, 4, 5, 13], 0] = 0


def run(case, rows=None, batch_size=12, compiled=True, parallel=None):
    rows = slice(None) if rows is None else list(rows)
    inputs = {
        name: keras.Input(values.shape[1:], name=name)
        for name, values in X.items()
    }
    features = RangeControl(name="range_control")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(features["a"]))
    model.compile("sgd", "mse", jit_compile=False, run_eagerly=not compiled)
    model.fit(
        {name: values[rows] for name, values in X.items()},
        np.ones((24, 2), "float32")[rows],
        batch_size=batch_size,
        shuffle=False,
        verbose=0,
    )
    return model, []
