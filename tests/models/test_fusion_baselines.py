import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import run_model_checks
from tests.helpers import vectors


@pytest.mark.parametrize(
    "cls", [keras_mmrel.ConcatFusion, keras_mmrel.LateFusion]
)
def test_standard_checks(cls, tmp_path):
    run_model_checks(cls, tmp_path)


def test_concat_logits_are_the_sum_of_modality_parts():
    model = keras_mmrel.ConcatFusion({"a": (6,), "b": (4,), "c": (5,)}, 3)
    model.bias.assign([0.3, -0.2, 0.1])
    x, _ = vectors()
    out = model.predict(x, batch_size=48, verbose=0)
    bias = ops.convert_to_numpy(model.bias)
    np.testing.assert_allclose(
        (out["modality_logits"] - bias).sum(axis=1) + bias,
        out["logits"],
        atol=1e-5,
    )


def test_concat_modality_logits_equal_zeroing_the_other_features():
    model = keras_mmrel.ConcatFusion({"a": (6,), "b": (4,), "c": (5,)}, 3)
    x, _ = vectors()
    mask = np.zeros((48, 3))
    mask[:, 1] = 1
    alone = model.predict(
        {**x, "modality_mask": mask}, batch_size=48, verbose=0
    )
    together = model.predict(x, batch_size=48, verbose=0)
    np.testing.assert_allclose(
        alone["logits"], together["modality_logits"][:, 1], atol=1e-5
    )


def test_late_fusion_averages_over_present_modalities():
    model = keras_mmrel.LateFusion({"a": (6,), "b": (4,), "c": (5,)}, 3)
    x, _ = vectors()
    mask = np.ones((48, 3))
    mask[:, 2] = 0
    out = model.predict({**x, "modality_mask": mask}, batch_size=48, verbose=0)
    np.testing.assert_allclose(
        out["logits"], out["modality_logits"][:, :2].mean(axis=1), atol=1e-5
    )


def test_late_fusion_averages_probabilities_over_present_modalities():
    model = keras_mmrel.LateFusion(
        {"a": (6,), "b": (4,), "c": (5,)}, 3, average="probabilities"
    )
    x, _ = vectors()
    mask = np.ones((48, 3))
    mask[:, 2] = 0
    out = model.predict({**x, "modality_mask": mask}, batch_size=48, verbose=0)
    votes = np.exp(out["modality_logits"])
    votes /= votes.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(
        out["probabilities"], votes[:, :2].mean(axis=1), atol=1e-5
    )
    assert keras_mmrel.LateFusion.from_config(model.get_config()).average == (
        "probabilities"
    )


def test_late_fusion_refuses_an_unknown_average():
    with pytest.raises(ValueError, match="average='votes'"):
        keras_mmrel.LateFusion({"a": (6,)}, 3, average="votes")


def test_late_fusion_refuses_a_negative_weight():
    with pytest.raises(ValueError, match="modality_loss_weight=-1"):
        keras_mmrel.LateFusion({"a": (6,)}, 3, modality_loss_weight=-1)
