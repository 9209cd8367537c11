import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import ICIRemoval
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy
from tests.micinet_models import input_gradient
from tests.micinet_models import normal
from tests.micinet_models import randomise
from tests.micinet_models import sigmoid

Z = normal(10, 2, 6)
MEAN = normal(10, 2, 6, seed=1)
VARIANCE = 0.2 + normal(10, 2, 6, seed=2) ** 2


def test_standard_checks():
    run_layer_checks(
        ICIRemoval(seed=0),
        [Z, MEAN, VARIANCE],
        output_shapes={
            "kept": (10, 2, 6),
            "ici": (10, 2, 6),
            "removed": (10, 2, 6),
            "ici_fraction": (10, 2),
            "surprise": (10, 2),
            "divergence": (10, 2),
        },
    )


def test_outputs_follow_the_formulas():
    layer = ICIRemoval()
    layer.build(Z.shape)
    randomise(layer.trainable_weights)
    bias, slope, modality_slope, log_variance = (
        to_numpy(w) for w in layer.trainable_weights
    )
    out = to_numpy(layer(Z, MEAN, VARIANCE))
    relative = (Z - MEAN) ** 2 / VARIANCE
    t = np.log(relative.mean(axis=-1) + 1e-4)
    gate = sigmoid(
        bias + slope * np.log(1 + relative) + modality_slope * t[:, :, None]
    )
    ici = MEAN + gate * (Z - MEAN)
    length = np.linalg.norm(ici, axis=-1)
    share = length / (length + np.linalg.norm(Z - ici, axis=-1))
    divergence = 0.5 * (
        (np.exp(log_variance) + (ici - MEAN) ** 2) / VARIANCE
        - 1
        + np.log(VARIANCE)
        - log_variance
    ).mean(axis=-1)
    expected = {
        "kept": (1 - gate) * (Z - MEAN),
        "ici": ici,
        "ici_fraction": share,
        "surprise": t,
        "divergence": divergence,
    }
    for key, value in expected.items():
        np.testing.assert_allclose(out[key], value, atol=2e-5, err_msg=key)


@pytest.mark.parametrize("training", [False, True])
def test_what_is_kept_and_what_is_removed_add_up(training):
    layer = ICIRemoval(seed=0)
    z = 10.0 * Z
    out = to_numpy(layer(z, MEAN, VARIANCE, training=training))
    np.testing.assert_allclose(out["kept"] + out["ici"], z, atol=1e-5)


@pytest.mark.slow_on("jax", "tensorflow")
def test_training_noise_has_the_learnt_deviation():
    z, mean = np.zeros((4000, 1, 3), "float32"), np.zeros((1, 1, 3), "float32")
    layer = ICIRemoval(seed=0)
    layer.build(z.shape)
    layer.log_variance.assign(np.log([[0.01, 1.0, 4.0]]))
    ici = to_numpy(layer(z, mean, mean + 1.0, training=True))["ici"]
    np.testing.assert_allclose(
        ici[:, 0].std(axis=0), [0.1, 1.0, 2.0], rtol=0.05
    )
    np.testing.assert_allclose(ici.mean(), 0, atol=0.1)
    calm = to_numpy(layer(z, mean, mean + 1.0))["ici"]
    np.testing.assert_array_equal(calm, 0)


def test_the_more_surprising_a_feature_the_more_of_it_is_removed():
    z = np.ones((1, 1, 4), "float32")
    z[0, 0] = [0.5, 1.0, 4.0, 16.0]
    out = to_numpy(ICIRemoval()(z, 0 * z, 0 * z + 1.0))
    gate = out["ici"][0, 0] / z[0, 0]
    assert (np.diff(gate) > 0.01).all()
    assert 0 < gate.min() < gate.max() < 1


def test_what_is_kept_stays_bounded_while_noise_grows():
    layer, kept, share = ICIRemoval(), [], []
    for sigma in (1.0, 10.0, 100.0, 1000.0):
        out = to_numpy(layer(sigma * Z, 0 * Z, 0 * Z + 1.0))
        kept.append(np.abs(out["kept"]).max())
        share.append(out["ici_fraction"].mean())
    assert max(kept) < 8 and kept[3] < kept[2] < kept[1]
    assert (np.diff(share) > 0).all() and share[-1] > 0.99


def test_gradients_are_finite_where_nothing_surprises():
    layer = ICIRemoval()

    def total(z):
        out = layer(z, z * 0.0, z * 0.0 + 1.0)
        return sum(ops.sum(v) for v in out.values())

    assert np.isfinite(input_gradient(total, np.zeros_like(Z))).all()


def test_half_precision_inputs_are_judged_in_float32():
    layer = ICIRemoval(dtype="mixed_float16")
    # The square would overflow.
    out = layer(ops.cast(Z + 1000.0, "float16"), MEAN, VARIANCE)
    assert {keras.backend.standardize_dtype(v.dtype) for v in out.values()} == {
        "float32"
    }
    assert all(np.isfinite(to_numpy(v)).all() for v in out.values())


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="batch, modalities, features"):
        ICIRemoval()(np.zeros((3, 4)), np.zeros((3, 4)), np.ones((3, 4)))
