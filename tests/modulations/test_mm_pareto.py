"""Two gradients an encoder, against NumPy by hand and the released code."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.modulations import MMPareto
from tests.modulations.helpers import TwoWays
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import assert_equal_weights
from tests.modulations.helpers import make_model
from tests.modulations.helpers import train
from tests.modulations.helpers import weights

SGD = keras.optimizers.SGD


class Sum(MMPareto):
    """The added loss, and nothing else."""

    def compute_coefficients(self, labels, outputs, present):
        return ops.ones_like(present)

    def merge_gradients(self, gradients, added, variables, owners):
        self.total_weight.assign_add(ops.ones((2,)))
        return gradients


def step(modulation, model=None, optimizer=None, **kwargs):
    """What one step on all samples takes from each weight."""
    model = model or two_ways()
    before = weights(model)
    train(modulation, optimizer or SGD(1.0), model, batch_size=24, **kwargs)
    return [old - new for old, new in zip(before, weights(model), strict=True)]


def two_ways(**kwargs):
    return make_model(model_class=TwoWays, **kwargs)


def by_hand(joint, own, rescale):
    """Gradients of one encoder's variables, and the weight of its own."""
    gg = sum((g**2).sum() for g in joint)
    gu = sum((g * u).sum() for g, u in zip(joint, own, strict=True))
    uu = sum((u**2).sum() for u in own)
    weight = (gg - gu) / (gg + uu - 2 * gu) if gu < 0 else 0.5
    result = []
    for g, u in zip(joint, own, strict=True):
        merged = 2 * (1 - weight) * g + 2 * weight * u
        longer = np.linalg.norm(g + u) / np.linalg.norm(merged)
        result.append(rescale * max(longer, 1.0) * merged)
    return result, weight


@pytest.fixture(scope="module")
def expected():
    """Of the two ways: gradients of `MMPareto(1.5)`, and the weights."""
    joint = [g.astype("float64") for g in step(None)]
    total = [g.astype("float64") for g in step(Sum())]
    own = [t - g for t, g in zip(total, joint, strict=True)]
    model = two_ways()
    owners = model.modulation_slot.owners(model.trainable_variables)
    found, shares = list(total), []
    for owner in range(2):
        rows = [i for i, o in enumerate(owners) if o == owner]
        part, weight = by_hand(
            [joint[i] for i in rows], [own[i] for i in rows], 1.5
        )
        shares.append(2 * weight)
        for i, gradient in zip(rows, part, strict=True):
            found[i] = gradient
    return found, shares


@pytest.mark.parametrize("compiled", [False, True])
def test_where_both_pull_apart_the_shortest_of_their_mixtures(
    expected, compiled
):
    gradients, shares = expected
    assert abs(shares[0] - 1) > 0.05 and shares[1] == 1
    model = two_ways()
    before = weights(model)
    _, logs = train(
        MMPareto(), SGD(1.0), model, batch_size=24, compiled=compiled
    )
    moved = [a - b for a, b in zip(before, weights(model), strict=True)]
    assert_equal_weights(moved, gradients, atol=2e-5)
    for name, share in zip("ab", shares, strict=True):
        np.testing.assert_allclose(
            logs[f"{name}_unimodal_weight"], share, atol=1e-4
        )
        np.testing.assert_allclose(logs[f"{name}_coefficient"], 1.5)


def test_the_added_loss_is_logged_and_is_no_part_of_validation():
    model = two_ways()
    outputs = model(X, training=False)
    log_p = ops.convert_to_numpy(ops.log_softmax(outputs["modality_logits"]))
    own = -log_p[np.arange(24), :, Y].sum(axis=1).mean()
    _, logs = train(
        MMPareto(), SGD(0.0), model, batch_size=24, validation_data=(X, Y)
    )
    np.testing.assert_allclose(logs["unimodal_loss"], own, rtol=1e-5)
    difference = logs["loss"][0] - logs["val_loss"][0]
    np.testing.assert_allclose(difference, own, rtol=1e-4)


def test_outside_its_window_it_is_the_sum():
    late = step(MMPareto(warmup=0.5))
    assert_equal_weights(late, step(Sum()), atol=0)


def test_a_modality_that_a_batch_lacks_is_left_alone():
    mask = np.ones((24, 2), "float32")
    mask[:, 0] = 0
    data = {"x": {**X, "modality_mask": mask}, "y": Y}
    model = two_ways()
    owners = model.modulation_slot.owners(model.trainable_variables)
    moved = step(MMPareto(), model, **data)
    assert all(np.isfinite(change).all() for change in moved)
    for owner, change in zip(owners, moved, strict=True):
        if owner is not None:
            assert change.any() == (owner == 1)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: SGD(0.1, gradient_accumulation_steps=2, clipnorm=1.0),
        lambda: keras.optimizers.Adam(0.01),
        lambda: keras.optimizers.LossScaleOptimizer(SGD(0.1)),
    ],
)
def test_it_trains_under_every_kind_of_optimizer(optimizer):
    plain = step(Sum(), optimizer=optimizer(), epochs=2)
    moved = step(MMPareto(), optimizer=optimizer(), epochs=2)
    assert all(np.isfinite(m).all() for m in moved)
    assert (
        max(np.abs(m - p).max() for m, p in zip(moved, plain, strict=True))
        > 1e-4
    )


def test_a_scaled_loss_gives_the_same_step():
    scaled = keras.optimizers.LossScaleOptimizer(SGD(1.0))
    assert_equal_weights(
        step(MMPareto(), optimizer=scaled), step(MMPareto()), atol=1e-5
    )


def test_it_is_saved_with_the_model(tmp_path):
    model, _ = train(MMPareto(rescale=1.2, until=0.9))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.modulation.get_config() == model.modulation.get_config()
    assert loaded.modulation.rescale == 1.2
    for m in (model, loaded):
        m.fit(X, Y, batch_size=24, epochs=2, verbose=0)
    assert_equal_weights(weights(loaded), weights(model), atol=1e-6)


def test_mixed_precision():
    model = make_model(dtype="mixed_float16")
    _, logs = train(MMPareto(), SGD(0.05), model, epochs=2)
    assert np.isfinite(logs["loss"]).all()
    assert all(np.isfinite(w).all() for w in weights(model))


def test_bad_input():
    with pytest.raises(ValueError, match="`rescale` must be .* positive"):
        MMPareto(rescale=0.0)
