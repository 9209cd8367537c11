import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import run_model_checks
from tests.helpers import vectors


def test_standard_checks(tmp_path):
    run_model_checks(keras_mmrel.MMCosine, tmp_path)


def test_no_modality_speaks_louder_than_the_others():
    model = keras_mmrel.MMCosine({"a": (6,), "b": (4,), "c": (5,)}, 3, scale=5)
    x, _ = vectors()
    for variable in model.encoders[0].trainable_variables:
        variable.assign(20.0 * ops.convert_to_tensor(variable))
    own = model.predict(x, batch_size=48, verbose=0)["modality_logits"]
    assert np.abs(own).max() <= 5
    # That of a loud one is as large as that of any other.
    size = np.abs(own).max(axis=(0, 2))
    assert size.max() < 4 * size.min()


def test_logits_are_the_sum_over_present_modalities():
    model = keras_mmrel.MMCosine({"a": (6,), "b": (4,), "c": (5,)}, 3)
    x, _ = vectors()
    mask = np.ones((48, 3))
    mask[::2, 1] = 0
    out = model.predict({**x, "modality_mask": mask}, batch_size=48, verbose=0)
    own = out["modality_logits"] * mask[:, :, None]
    np.testing.assert_allclose(out["logits"], own.sum(axis=1), atol=1e-5)
    np.testing.assert_array_equal(out["modality_logits"][::2, 1], 0)


def test_bad_input():
    with pytest.raises(ValueError, match="`scale` must be"):
        keras_mmrel.MMCosine({"a": (6,)}, 3, scale=-1.0)
