import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers._ici_fusion import ICIFusion
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy
from tests.micinet_models import gradients_of
from tests.micinet_models import normal
from tests.micinet_models import randomise
from tests.micinet_models import softmax

Z = normal(10, 3, 6)
LABELS = np.arange(10) % 4
MASK = np.ones((10, 3), "float32")
MASK[::2, 1] = 0
OPTIONS = ("global_prior", "removal", "compensation", "weighting")


def build(**kwargs):
    layer = ICIFusion(4, seed=0, **kwargs)
    layer.build(Z.shape)
    randomise(layer.trainable_weights, scale=0.3)
    if layer.global_prior:
        p = softmax(normal(10, 3, 4, seed=1))
        layer.global_ici.update_statistics(5 * Z, LABELS, p)
    return layer


def run(layer, z=Z, mask=None, **kwargs):
    return to_numpy(layer(z, mask, **kwargs))


def shapes():
    wide, pair, classes = (10, 3, 6), (10, 3), (10, 3, 4)
    names = {
        wide: ("prior_mean", "ici", "kept", "compensation", "compensated"),
        pair: (
            "ici_fraction",
            "divergence",
            "own_logits",
            "power_logits",
            "discriminative_power",
        ),
        classes: ("initial_logits", "kept_logits", "modality_logits"),
    }
    found = {name: shape for shape, group in names.items() for name in group}
    return {**found, "compensation_gate": pair, "logits": (10, 4)}


def test_standard_checks():
    run_layer_checks(
        ICIFusion(4, seed=0),
        [Z, MASK],
        output_shapes=shapes(),
    )


def test_with_a_global_prior_it_is_saved_with_its_tables(tmp_path):
    layer = build()
    inputs = keras.Input((3, 6))
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = run(layer)
    assert np.abs(expected["prior_mean"]).max() > 0.1
    for key, value in to_numpy(loaded(Z)).items():
        np.testing.assert_allclose(value, expected[key], atol=1e-5, err_msg=key)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_everything_it_finds_is_float32_and_finite(policy):
    layer = ICIFusion(4, dtype=policy)
    out = layer(100.0 * Z, MASK, training=True)
    for key, value in out.items():
        assert keras.backend.standardize_dtype(value.dtype) == "float32", key
        assert np.isfinite(to_numpy(value)).all(), key


# -- What it computes ---------------------------------------------------------


def head(layer, z):
    kernel, bias = (to_numpy(w) for w in layer.weights)
    return np.einsum("bmd,mdk->bmk", z, kernel) + bias


def test_the_steps_follow_each_other():
    layer = build()
    out = run(layer, mask=MASK)
    present = MASK[:, :, None]
    np.testing.assert_allclose(
        out["initial_logits"], head(layer.initial_head, Z), atol=1e-5
    )
    prior = to_numpy(layer.global_ici(Z, softmax(out["initial_logits"] / 2)))
    np.testing.assert_allclose(out["prior_mean"], prior["mean"], atol=1e-5)
    removed = to_numpy(layer.ici_removal(Z, prior["mean"], prior["variance"]))
    for key in ("kept", "ici"):
        np.testing.assert_allclose(
            out[key], removed[key] * present, atol=1e-5, err_msg=key
        )
    np.testing.assert_allclose(
        out["ici_fraction"], removed["ici_fraction"] * MASK, atol=1e-5
    )
    logits = head(layer.kept_head, out["kept"])
    np.testing.assert_allclose(out["kept_logits"], logits, atol=1e-5)
    judged = to_numpy(
        layer.discriminative_power(
            softmax(logits), removed["surprise"], removed["ici_fraction"], MASK
        )
    )
    for key in ("power_logits", "discriminative_power"):
        np.testing.assert_allclose(out[key], judged[key], rtol=1e-4, atol=1e-5)
    holes = np.where(present > 0, removed["removed"], 1.0)
    repaired = to_numpy(
        layer.compensate(out["kept"], out["power_logits"], holes)
    )
    for key in ("compensated", "compensation"):
        np.testing.assert_allclose(out[key], repaired[key], atol=1e-5)
    np.testing.assert_allclose(
        out["compensation_gate"], repaired["gate"].mean(axis=-1), atol=1e-5
    )


def test_the_fused_logits_are_a_product_of_experts():
    layer = build()
    out = run(layer, mask=MASK)
    experts = np.log(softmax(3 * head(layer.expert_head, out["compensated"])))
    np.testing.assert_allclose(out["modality_logits"], experts, atol=1e-4)
    product = np.prod(
        np.exp(experts) ** out["discriminative_power"][:, :, None], axis=1
    )
    expected = product ** np.sqrt(3)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(out["logits"]), expected, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_parts_add_up_and_powers_sum_to_one(training):
    out = run(build(), mask=MASK, training=training)
    present = MASK[:, :, None]
    np.testing.assert_allclose(out["kept"] + out["ici"], Z * present, atol=1e-5)
    np.testing.assert_allclose(
        out["discriminative_power"].sum(axis=1), 1, atol=1e-6
    )
    assert (0 <= out["ici_fraction"]).all() and (out["ici_fraction"] <= 1).all()


def test_logits_stay_finite_under_heavy_noise():
    for noise in (50.0, 1e4):
        out = run(build(), noise * Z)
        assert np.isfinite(softmax(out["logits"])).all()


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_sample_does_not_know_the_rest_of_its_batch():
    layer = build()
    out = run(layer, mask=MASK)
    before = [to_numpy(w) for w in layer.weights]
    for rows in ([3], [9, 1, 3]):
        alone = run(layer, Z[rows], MASK[rows])
        for key, value in alone.items():
            np.testing.assert_allclose(
                value, out[key][rows], atol=1e-5, rtol=1e-5, err_msg=key
            )
    for weight, old in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), old)


def test_a_missing_modality_has_no_power_and_no_influence():
    layer = build()
    out = run(layer, mask=MASK)
    missing = MASK == 0
    np.testing.assert_array_equal(out["discriminative_power"][missing], 0)
    np.testing.assert_array_equal(out["ici_fraction"][missing], 0)
    np.testing.assert_array_equal(out["compensation_gate"][missing], 1)
    changed = Z.copy()
    changed[missing] = 30.0
    other = run(layer, changed, MASK)
    for key in (
        "logits",
        "modality_logits",
        "discriminative_power",
        "compensated",
    ):
        np.testing.assert_allclose(other[key], out[key], atol=1e-5)


@pytest.mark.slow_on("jax", "tensorflow")
def test_one_modality_alone_is_trusted_and_not_compensated():
    layer = ICIFusion(4, seed=0)
    out = run(layer, Z[:, :1])
    np.testing.assert_allclose(out["discriminative_power"], 1, atol=1e-6)
    np.testing.assert_array_equal(out["compensation_gate"], 0)
    np.testing.assert_array_equal(out["compensated"], out["kept"])
    np.testing.assert_allclose(
        out["logits"], out["modality_logits"][:, 0], atol=1e-5
    )


# -- Options ------------------------------------------------------------------


def with_option_off(name):
    full, less = build(), build(**{name: False})
    for layer in (
        "initial_head",
        "kept_head",
        "expert_head",
        "power_logits",
        "ici_removal",
        "compensate",
        "global_ici",
    ):
        if hasattr(less, layer):
            weights = getattr(full, layer).get_weights()
            getattr(less, layer).set_weights(weights)
    return run(full, mask=MASK), run(less, mask=MASK)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_changes_the_answer(name):
    full, less = with_option_off(name)
    assert np.abs(full["logits"] - less["logits"]).max() > 1e-3
    np.testing.assert_allclose(full["initial_logits"], less["initial_logits"])
    assert full.keys() == less.keys()


def test_without_a_prior_all_is_compared_with_the_standard_normal():
    _, less = with_option_off("global_prior")
    np.testing.assert_array_equal(less["prior_mean"], 0)


def test_without_removal_everything_is_kept():
    _, less = with_option_off("removal")
    np.testing.assert_array_equal(less["kept"], Z * MASK[:, :, None])
    np.testing.assert_array_equal(less["ici_fraction"], 0)
    np.testing.assert_array_equal(less["ici"], 0)
    # There is nothing to fill but what is missing.
    np.testing.assert_array_equal(less["compensation_gate"], 1 - MASK)
    np.testing.assert_array_equal(
        less["compensated"][MASK > 0], less["kept"][MASK > 0]
    )


def test_without_compensation_what_is_kept_is_fused():
    _, less = with_option_off("compensation")
    np.testing.assert_array_equal(less["compensated"], less["kept"])
    np.testing.assert_array_equal(less["compensation_gate"], 0)


def test_features_are_compensated_alike_where_that_is_asked_for():
    out = run(build(compensation="modality"))
    difference = out["compensated"] - out["kept"]
    gate = difference / out["compensation"]
    assert np.ptp(gate, axis=-1).max() < 1e-2
    np.testing.assert_allclose(
        gate.mean(axis=-1), out["compensation_gate"], atol=1e-2
    )


def test_without_weighting_present_modalities_weigh_the_same():
    full, less = with_option_off("weighting")
    expected = MASK / MASK.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(less["discriminative_power"], expected)
    np.testing.assert_allclose(less["power_logits"], full["power_logits"])


# -- Gradients ----------------------------------------------------------------


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_fusion_teaches_the_powers_but_not_the_guess():
    layer = build()
    kernels = [
        layer.discriminative_power.kernel,
        layer.discriminative_power.bias,
        layer.ici_removal.bias,
        layer.expert_head.kernel,
        layer.initial_head.kernel,
    ]
    found = gradients_of(lambda: ops.sum(layer(Z)["logits"][:, 0]), kernels)
    learns = [np.abs(g).max() > 1e-6 for g in found]
    assert learns == [True] * 4 + [False]


def test_the_powers_teach_no_classifier():
    layer = build()
    found = gradients_of(
        lambda: ops.sum(layer(Z)["power_logits"][:, 0]),
        [
            layer.kept_head.kernel,
            layer.ici_removal.bias,
            layer.discriminative_power.kernel,
        ],
    )
    assert [np.abs(g).max() > 0 for g in found] == [False, False, True]


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="batch, modalities, features"):
        ICIFusion(3)(Z[:, 0])
