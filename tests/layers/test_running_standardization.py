import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import RunningStandardization
from tests.helpers import assert_same_state
from tests.helpers import check_statistics_move_in_fit_only
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy
from tests.micinet_models import input_gradient
from tests.micinet_models import normal

X = 3.0 + 2.0 * normal(40, 2, 6)


def built(**kwargs):
    layer = RunningStandardization(**kwargs)
    layer.build(X.shape)
    return layer


def state(layer):
    return [to_numpy(w) for w in layer.weights]


def moments(x, mask=None):
    rows = [x[:, m] for m in range(2)]
    if mask is not None:
        rows = [x[mask[:, m] > 0, m] for m in range(2)]
    return (
        np.stack([r.mean(axis=0) for r in rows]),
        np.stack([r.var(axis=0) for r in rows]),
    )


def test_standard_checks():
    run_layer_checks(RunningStandardization(), X, output_shapes=(40, 2, 6))


def test_the_first_batch_is_copied():
    layer = built()
    np.testing.assert_allclose(to_numpy(layer(X)), X, rtol=0.01)
    layer.update_statistics(X)
    mean, variance = moments(X)
    np.testing.assert_allclose(state(layer)[0], mean, rtol=1e-5)
    np.testing.assert_allclose(state(layer)[1], variance, rtol=1e-5)


def test_the_next_batches_are_averaged_and_later_ones_mixed_in():
    layer = built(momentum=0.75)
    batches = [X[8 * i : 8 * i + 8] + i for i in range(4)]
    for batch in batches:
        layer.update_statistics(batch)
    average = np.mean([moments(batch) for batch in batches], axis=0)
    for found, expected in zip(state(layer), average, strict=False):
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    layer.update_statistics(X - 4.0)
    for found, old, new in zip(
        state(layer), average, moments(X - 4.0), strict=False
    ):
        np.testing.assert_allclose(found, 0.75 * old + 0.25 * new, rtol=1e-4)


def test_the_scale_can_be_left_alone():
    layer = built(scale=False)
    layer.update_statistics(X)
    np.testing.assert_allclose(to_numpy(layer(X)), X - moments(X)[0], atol=1e-5)
    assert layer.get_config()["scale"] is False


def test_outputs_follow_the_formula():
    layer = built()
    layer.update_statistics(X)
    mean, variance = moments(X)
    floor = 0.1 * np.sqrt(variance).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(
        to_numpy(layer(X)),
        (X - mean) / np.sqrt(variance + floor**2),
        atol=1e-5,
    )


def test_a_feature_that_hardly_moves_is_not_blown_up():
    x = X.copy()
    x[:, :, 0] = 1.0
    layer = built()
    layer.update_statistics(x)
    x[:, :, 0] += 0.1
    z = to_numpy(layer(x))
    assert 0.1 < z[:, :, 0].min() <= z[:, :, 0].max() < 1.0


@pytest.mark.parametrize("before", [False, True])
def test_a_batch_of_one_sample_changes_nothing(before):
    layer = built()
    if before:
        layer.update_statistics(X)
    old = state(layer)
    layer.update_statistics(X[:1] + 9.0)
    for a, b in zip(state(layer), old, strict=True):
        np.testing.assert_array_equal(a, b)


def test_missing_modalities_do_not_enter_the_statistics():
    mask = np.ones((40, 2), "float32")
    mask[::3, 0] = 0
    spoiled = np.where(mask[:, :, None] > 0, X, np.nan).astype("float32")
    layer = built()
    layer.update_statistics(spoiled, mask)
    mean, variance = moments(X, mask)
    np.testing.assert_allclose(state(layer)[0], mean, rtol=1e-5)
    np.testing.assert_allclose(state(layer)[1], variance, rtol=1e-5)


def test_a_modality_is_first_seen_when_two_samples_have_it():
    mask = np.ones((40, 2), "float32")
    mask[1:, 0] = 0
    layer = built()
    layer.update_statistics(X + 5.0, mask)
    mean, variance, seen = state(layer)
    np.testing.assert_array_equal(seen, [0, 1])
    np.testing.assert_array_equal(mean[0], 0)
    np.testing.assert_array_equal(variance[0], 1)
    layer.update_statistics(X)
    mean, _, seen = state(layer)
    np.testing.assert_array_equal(seen, [1, 2])
    np.testing.assert_allclose(mean[0], moments(X)[0][0], rtol=1e-5)
    np.testing.assert_allclose(mean[1], moments(X)[0][1] + 2.5, rtol=1e-5)


def test_large_values_lose_no_precision():
    layer = built()
    layer.update_statistics(X + 1000.0)
    np.testing.assert_allclose(state(layer)[1], moments(X)[1], rtol=1e-3)


def test_adapt_forgets_what_was_before():
    layer = RunningStandardization()
    layer.adapt(X * 50.0)
    layer.adapt(X)
    np.testing.assert_allclose(state(layer)[0], moments(X)[0], rtol=1e-5)


def test_statistics_are_saved(tmp_path):
    inputs = keras.Input((2, 6))
    layer = RunningStandardization()
    model = keras.Model(inputs, layer(inputs))
    layer.adapt(X)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(to_numpy(loaded(X)), to_numpy(layer(X)))


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="batch, modalities, features"):
        RunningStandardization()(np.zeros((3, 4)))


def test_a_missing_modality_may_hold_anything_and_is_zero():
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, size=(30, 2, 4)).astype("float32")
    mask = np.ones((30, 2), "float32")
    mask[::3, 1] = 0
    spoiled = x.copy()
    spoiled[::3, 1] = np.nan
    layer, other = RunningStandardization(), RunningStandardization()
    out = to_numpy(layer(spoiled, mask, training=True))
    assert (out[::3, 1] == 0).all() and np.isfinite(out).all()
    np.testing.assert_array_equal(out, to_numpy(other(x, mask, training=True)))
    assert_same_state(layer, other)


def test_a_training_call_has_taken_in_its_batch():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(30, 2, 4))
    called, updated = RunningStandardization(), RunningStandardization()
    updated.build(x.shape)
    updated.update_statistics(x)
    out = to_numpy(called(x, training=True))
    np.testing.assert_array_equal(out, to_numpy(updated(x)))
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)
    assert_same_state(called, updated)


def test_statistics_move_in_fit_only_unless_frozen():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(40, 2, 4))
    check_statistics_move_in_fit_only(RunningStandardization(), [x])


def test_statistics_build_the_layer():
    layer = RunningStandardization()
    layer.update_statistics(np.ones((4, 2, 3)))
    assert layer.built and layer.non_trainable_weights


# -- The gradient of the batch's moments --------------------------------------


def gradient_of(layer, x, weight, mask=None, method="with_batch_gradient"):
    """Gradient of `sum(weight * z)` by the inputs, as an array."""
    weight = ops.convert_to_tensor(weight.astype("float32"))
    return input_gradient(
        lambda t: ops.sum(weight * getattr(layer, method)(t, mask)), x
    )


def test_values_are_those_of_a_call():
    mask = np.ones((40, 2), "float32")
    mask[::3, 1] = 0
    layer = built()
    for frozen in (False, True):
        if frozen:
            layer.update_statistics(X[:20], mask[:20])
        z = to_numpy(layer.with_batch_gradient(X, mask))
        np.testing.assert_allclose(z, to_numpy(layer(X, mask)), atol=1e-5)
        assert (z[mask == 0] == 0).all()
    before = state(layer)
    layer.with_batch_gradient(X)
    for value, one in zip(state(layer), before, strict=True):
        np.testing.assert_array_equal(value, one)


def test_no_step_moves_or_scales_a_feature_of_all_samples():
    layer = built()
    layer.update_statistics(X)
    weight = normal(40, 2, 6, seed=3)
    gradients = {
        method: gradient_of(layer, X, weight, method=method)
        for method in ("with_batch_gradient", "__call__")
    }
    centred = X - X.mean(axis=0)
    for along in (np.ones_like(X), centred):
        own, plain = (
            np.abs((gradient * along).sum(axis=0)).max()
            for gradient in gradients.values()
        )
        # What is left is what the running statistics count, of 44 samples.
        assert own < 0.15 * plain
    # Across these two directions, it is the same.
    own, plain = (
        gradient
        - gradient.mean(axis=0)
        - centred
        * (gradient * centred).sum(axis=0)
        / np.square(centred).sum(axis=0)
        for gradient in gradients.values()
    )
    np.testing.assert_allclose(own, plain, atol=0.02 * np.abs(plain).max())


def test_gradients_of_one_sample_and_of_constant_features_are_numbers():
    layer = built()
    layer.update_statistics(X)
    one = gradient_of(layer, X[:1], np.ones((1, 2, 6)))
    assert np.isfinite(one).all() and np.abs(one).min() > 0.1
    flat = np.zeros_like(X)
    for layer in (built(), built(scale=False)):
        layer.update_statistics(flat)
        assert np.isfinite(gradient_of(layer, flat, X)).all()
    absent = gradient_of(layer, X, X, np.zeros((40, 2), "float32"))
    assert (absent == 0).all()
