import keras
import numpy as np
import pytest

import keras_mmrel
from tests.helpers import SHAPES
from tests.helpers import vectors


def trained(name):
    x, y = vectors()
    model = getattr(keras_mmrel, name)(SHAPES, 3, seed=0)
    model.compile()
    model.fit(x, y, batch_size=24, verbose=0)
    return model, x


@pytest.mark.slow_on("tensorflow")
def test_a_quantized_model_is_saved_and_loaded(tmp_path):
    model, x = trained("LateFusion")
    before = model.predict(x, verbose=0)["probabilities"]
    model.quantize("int8")
    after = model.predict(x, verbose=0)["probabilities"]
    assert 0 < np.abs(after - before).max() < 0.1
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    kernels = [w for w in loaded.weights if w.path.endswith("head_0/kernel")]
    assert [w.dtype for w in kernels] == ["int8"]
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0)["probabilities"], after
    )


@pytest.mark.one_backend
def test_what_no_quantization_reaches_is_said():
    model, _ = trained("QADMNet")
    left = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    with pytest.warns(UserWarning, match=f"left {left:,} of {left:,} weights"):
        model.quantize("int8")
