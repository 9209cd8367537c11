import numpy as np
import pytest

import keras_mmrel
from tests.helpers import run_model_checks
from tests.helpers import vectors


# Elsewhere the golden values have it; all but the joint opinion is RCML's.
@pytest.mark.slow_on("jax", "tensorflow")
def test_standard_checks(tmp_path):
    run_model_checks(keras_mmrel.ETMC, tmp_path)


def test_the_joint_opinion_is_fused_as_one_more():
    model = keras_mmrel.ETMC({"a": (6,), "b": (4,), "c": (5,)}, 3, seed=0)
    x, _ = vectors()
    out = model.predict(x, batch_size=48, verbose=0)
    logs = [*np.moveaxis(out["modality_logits"], 1, 0), out["joint_logits"]]
    # 1 + e / K of opinions is multiplied.
    growth = np.prod([1 + (np.exp(log) - 1) / 3 for log in logs], axis=0)
    fused = np.log(1 + 3 * (growth - 1))
    np.testing.assert_allclose(out["logits"], fused, atol=1e-5)
    total = np.exp(out["logits"]).sum(axis=1)
    np.testing.assert_allclose(out["uncertainty"], 3 / total, rtol=1e-5)


def test_without_a_modality_there_is_no_evidence():
    model = keras_mmrel.ETMC({"a": (6,), "b": (4,), "c": (5,)}, 3, seed=0)
    x, _ = vectors()
    mask = np.zeros((48, 3))
    out = model.predict({**x, "modality_mask": mask}, verbose=0)
    np.testing.assert_allclose(out["joint_logits"], 0, atol=1e-6)
    np.testing.assert_allclose(out["uncertainty"], 1, atol=1e-5)


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_modality_loss_weight_of_zero_trains_the_fused_opinion_alone():
    x, y = vectors()
    model = keras_mmrel.ETMC(
        {"a": (6,), "b": (4,), "c": (5,)}, 3, modality_loss_weight=0.0
    )
    model.compile()
    logs = model.fit(x, y, verbose=0).history
    assert logs["modality_loss"] == [0.0] and logs["joint_loss"] == [0.0]


def test_bad_input():
    with pytest.raises(ValueError, match="`annealing` must be"):
        keras_mmrel.ETMC({"a": (6,)}, 3, annealing=2.0)
