"""Who learns from which loss, against trainings with one loss at a time."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.modulations import DGL
from keras_mmrel.modulations import GradientModulation
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import assert_equal_weights
from tests.modulations.helpers import make_model
from tests.modulations.helpers import own_fusion
from tests.modulations.helpers import train
from tests.modulations.helpers import weights

# `test_methods.py` has what runs on every backend.
pytestmark = pytest.mark.slow_on("jax", "tensorflow")
SGD = keras.optimizers.SGD


class Added(GradientModulation):
    """The same loss added, and nothing else."""

    def added_loss(self, labels, outputs, sample_weight):
        return DGL.added_loss(self, labels, outputs, sample_weight)

    alpha = 2.0


def step(modulation, model, **kwargs):
    """What one step on all samples takes from each weight."""
    before = weights(model)
    _, history = train(modulation, SGD(1.0), model, batch_size=24, **kwargs)
    moved = zip(before, weights(model), strict=True)
    return [old - new for old, new in moved], history


@pytest.mark.parametrize("make", [make_model, own_fusion])
@pytest.mark.parametrize("compiled", [False, True])
def test_encoders_learn_from_their_own_loss_and_the_fusion_from_the_models(
    make, compiled
):
    model = make()
    owners = model.modulation_slot.owners(model.trainable_variables)
    joint, _ = step(None, make())
    total, sums = step(Added(), make())
    moved, history = step(DGL(2.0), model, compiled=compiled)
    for change, a, b, owner in zip(moved, joint, total, owners, strict=True):
        expected = a if owner is None else b - a
        assert np.abs(b - 2 * a).max() > 1e-4
        np.testing.assert_allclose(change, expected, atol=2e-6)
    np.testing.assert_allclose(history["loss"], sums["loss"], rtol=1e-5)


def test_outside_its_window_it_is_the_sum():
    late, _ = step(DGL(2.0, warmup=0.5), make_model())
    total, _ = step(Added(), make_model())
    assert_equal_weights(late, total, atol=0)


def test_a_modality_that_a_batch_lacks_is_left_alone():
    mask = np.ones((24, 2), "float32")
    mask[:, 0] = 0
    model = make_model()
    owners = model.modulation_slot.owners(model.trainable_variables)
    moved, _ = step(DGL(), model, x={**X, "modality_mask": mask}, y=Y)
    for owner, change in zip(owners, moved, strict=True):
        assert np.isfinite(change).all()
        if owner is not None:
            assert change.any() == (owner == 1)


def test_it_trains_a_model_with_heads_of_each_modality():
    model = keras_mmrel.LateFusion({"a": (6,), "b": (4,)}, 3)
    _, history = train(DGL(1.0), model=model, epochs=2)
    assert np.isfinite(history["loss"]).all()
    assert ops.convert_to_numpy(model.modulation.active) == 1
