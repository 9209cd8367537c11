import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import CrossModalityCompensation
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy
from tests.micinet_models import input_gradient
from tests.micinet_models import normal
from tests.micinet_models import randomise
from tests.micinet_models import sigmoid

Z = normal(10, 3, 6)
POWER = 2.0 * normal(10, 3, seed=1)
REMOVED = sigmoid(normal(10, 3, 6, seed=2))


def random_layer(modalities=3):
    layer = CrossModalityCompensation()
    layer.build((None, modalities, 6))
    randomise(layer.trainable_weights)
    return layer


def expected_of(layer, z, power, removed):
    """The formulas, sample by sample and modality by modality."""
    read, write, bias = map(to_numpy, layer.trainable_weights)
    count = z.shape[1]
    compensation, gate = np.zeros_like(z), np.zeros_like(z)
    for b in range(len(z)):
        for m in range(count):
            others = [n for n in range(count) if n != m]
            weights = np.exp(power[b, others] - power[b, others].max())
            weights /= weights.sum()
            hidden = sum(
                w * (z[b, n] @ read[n])
                for w, n in zip(weights, others, strict=True)
            )
            compensation[b, m] = np.maximum(hidden, 0) @ write[m] + bias[m]
            best = power[b, others].max()
            best, own = np.exp(best), np.exp(power[b, m])
            gate[b, m] = removed[b, m] * best / (best + own)
    return {
        "compensated": z + gate * compensation,
        "compensation": compensation,
        "gate": gate,
    }


def test_standard_checks():
    run_layer_checks(
        CrossModalityCompensation(),
        [Z, POWER, REMOVED],
        output_shapes={
            "compensated": (10, 3, 6),
            "compensation": (10, 3, 6),
            "gate": (10, 3, 6),
        },
    )


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("modalities", [2, 3])
def test_outputs_follow_the_formulas(modalities):
    layer = random_layer(modalities)
    args = [x[:, :modalities] for x in (Z, POWER, REMOVED)]
    out = to_numpy(layer(*args))
    for key, value in expected_of(layer, *args).items():
        np.testing.assert_allclose(out[key], value, atol=2e-5, err_msg=key)


def test_no_modality_compensates_itself():
    layer = random_layer()
    changed = Z.copy()
    changed[:, 1] += 5.0
    a, b = to_numpy(layer(Z, POWER)), to_numpy(layer(changed, POWER))
    np.testing.assert_array_equal(
        a["compensation"][:, 1], b["compensation"][:, 1]
    )
    assert np.abs(a["compensation"] - b["compensation"])[:, [0, 2]].max() > 0.1


def test_holes_of_the_best_modality_stay_and_those_of_the_worst_are_filled():
    power = np.tile(np.array([[16.0, 0.0, -16.0]], "float32"), (10, 1))
    layer = random_layer()
    out = to_numpy(layer(Z, power, REMOVED))
    np.testing.assert_allclose(out["compensated"][:, 0], Z[:, 0], atol=1e-4)
    np.testing.assert_allclose(
        out["compensated"][:, 2],
        Z[:, 2] + REMOVED[:, 2] * out["compensation"][:, 2],
        atol=1e-4,
    )


def test_a_missing_modality_is_all_hole_and_lends_nothing():
    power, z = POWER.copy(), Z.copy()
    power[:, 0], z[:, 0] = -1e4, 0.0
    layer = random_layer()
    out = to_numpy(layer(z, power))
    np.testing.assert_array_equal(out["gate"][:, 0], 1)
    np.testing.assert_allclose(
        out["compensated"][:, 0], out["compensation"][:, 0], atol=1e-5
    )
    z[:, 0] = 99.0
    np.testing.assert_allclose(
        to_numpy(layer(z, power))["compensated"][:, 1:],
        out["compensated"][:, 1:],
        atol=1e-4,
    )


def test_where_nothing_was_removed_nothing_changes():
    out = to_numpy(random_layer()(Z, POWER, 0.0 * REMOVED))
    np.testing.assert_array_equal(out["compensated"], Z)


def test_the_only_modality_present_stays_as_it_is():
    power = np.full_like(POWER, -1e4)
    power[:, 1] = 0.0
    out = to_numpy(random_layer()(Z, power))
    np.testing.assert_array_equal(out["gate"][:, 1], 0)
    np.testing.assert_array_equal(out["compensated"][:, 1], Z[:, 1])


def test_one_modality_alone_is_returned_as_it_is():
    layer = CrossModalityCompensation()
    out = to_numpy(layer(Z[:, :1], POWER[:, :1]))
    assert layer.weights == []
    np.testing.assert_array_equal(out["compensated"], Z[:, :1])
    np.testing.assert_array_equal(out["gate"], 0)


def test_features_that_lost_more_are_filled_more():
    layer = CrossModalityCompensation()
    gate = to_numpy(layer(Z, 0.0 * POWER, REMOVED))["gate"]
    order = np.argsort(REMOVED, axis=-1)
    ordered = np.take_along_axis(gate, order, axis=-1)
    assert (np.diff(ordered, axis=-1) > 0).all()
    # As good as the best other one: half of the hole.
    np.testing.assert_allclose(gate, REMOVED / 2, atol=1e-6)
    # Nothing is learnt of the removal through this.
    gradient = input_gradient(
        lambda e: ops.sum(layer(Z, POWER, e)["compensated"]), REMOVED
    )
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_fusion_can_teach_the_powers():
    layer = random_layer()
    gradient = input_gradient(
        lambda power: ops.sum(layer(Z, power)["compensated"][:, 0]), POWER
    )
    # Own power and those of all others.
    assert (np.abs(gradient).max(axis=0) > 1e-3).all()


def test_cost_is_linear_in_the_modalities():
    sizes = [random_layer(m).count_params() for m in (2, 4)]
    assert sizes == [2 * (2 * 6 * 3 + 6), 4 * (2 * 6 * 3 + 6)]


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="batch, modalities, features"):
        CrossModalityCompensation()(np.zeros((3, 4)), np.zeros((3, 4)))
