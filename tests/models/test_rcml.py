import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.models.rcml import _conflict
from tests.helpers import SHAPES
from tests.helpers import run_model_checks
from tests.helpers import to_numpy
from tests.helpers import vectors


def test_standard_checks(tmp_path):
    run_model_checks(keras_mmrel.RCML, tmp_path)


def predicted(average, missing=()):
    model = keras_mmrel.RCML(SHAPES, 3, average=average, seed=0)
    x, _ = vectors()
    mask = np.ones((48, 3))
    mask[:, list(missing)] = 0
    out = model.predict({**x, "modality_mask": mask}, batch_size=48, verbose=0)
    return out, np.exp(out["modality_logits"]) - 1


def test_evidence_is_averaged_over_present_modalities():
    for missing in ((), (1,)):
        out, evidence = predicted("mean", missing)
        expected = evidence.sum(axis=1) / (3 - len(missing))
        np.testing.assert_allclose(
            np.exp(out["logits"]) - 1, expected, atol=1e-5
        )


@pytest.mark.parametrize(
    "missing, weights",
    [
        ((), (0.25, 0.25, 0.5)),
        ((0,), (0.0, 0.5, 0.5)),
        ((1,), (0.5, 0.0, 0.5)),
        ((2,), (0.5, 0.5, 0.0)),
    ],
)
def test_the_released_code_averages_one_after_the_other(missing, weights):
    out, evidence = predicted("sequential", missing)
    expected = np.einsum("bmk,m->bk", evidence, weights)
    np.testing.assert_allclose(np.exp(out["logits"]) - 1, expected, atol=1e-5)


def conflict(alpha, mask):
    logits = ops.log(ops.convert_to_tensor(np.float32(alpha)))
    return to_numpy(_conflict(logits, ops.convert_to_tensor(np.float32(mask))))


def test_conflict_by_hand():
    # Two certain opinions for different classes: p = (.9, .1) and (.1, .9),
    # u = .2 both; and one without evidence.
    alpha = [[[9.0, 1.0], [1.0, 9.0], [1.0, 1.0]]]
    found = conflict(alpha, np.ones((1, 3)))
    pair = 0.8 * 0.8 * 0.8 / 2
    np.testing.assert_allclose(found, [[pair, pair, 0.0]], rtol=1e-5)
    found = conflict(alpha, [[1.0, 0.0, 1.0]])
    np.testing.assert_allclose(found, np.zeros((1, 3)), atol=1e-6)


def test_a_contradiction_makes_nothing_surer():
    """By Dempster's rule it does."""
    evidence = ops.convert_to_tensor(np.float32([[[9, 0], [0, 9], [0, 0]]]))
    mask = ops.convert_to_tensor(np.float32([[1, 1, 0]]))
    totals = {}
    for cls in (keras_mmrel.RCML, keras_mmrel.TMC):
        model = cls({"a": (2,), "b": (2,), "c": (2,)}, 2)
        logs = to_numpy(model.fuse_evidence(evidence, mask))
        totals[cls] = (np.exp(logs) - 1).sum()
    np.testing.assert_allclose(totals[keras_mmrel.RCML], 9.0, rtol=1e-5)
    assert totals[keras_mmrel.TMC] > 18


def test_bad_input():
    with pytest.raises(ValueError, match="`average` must be"):
        keras_mmrel.RCML(SHAPES, 3, average="median")
    with pytest.raises(ValueError, match="`conflict_weight` must be"):
        keras_mmrel.RCML(SHAPES, 3, conflict_weight=-1.0)
