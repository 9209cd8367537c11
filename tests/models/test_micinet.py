import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.layers import CorruptionAugmentation
from tests.helpers import run_model_checks
from tests.helpers import to_numpy
from tests.helpers import vectors
from tests.micinet_models import X
from tests.micinet_models import Y
from tests.micinet_models import begin
from tests.micinet_models import compiled
from tests.micinet_models import gradients_of
from tests.micinet_models import make
from tests.micinet_models import normal

LOSSES = (
    "initial_loss",
    "kept_loss",
    "confidence_loss",
    "divergence_loss",
    "compensation_loss",
)


def statistics(model):
    """What the model estimates, without what it learns or draws."""
    return {
        w.path.split("/", 1)[-1]: to_numpy(w)
        for w in model.non_trainable_weights
    }


def assert_same(a, b, atol=0.0):
    assert a.keys() == b.keys()
    for key, value in a.items():
        np.testing.assert_allclose(value, b[key], atol=atol, err_msg=key)


def step(model, x=X, y=Y, **kwargs):
    return model.train_on_batch(x, y, return_dict=True, **kwargs)


def test_standard_checks(tmp_path):
    def small(modalities, num_classes, **kwargs):
        return keras_mmrel.MICINet(modalities, num_classes, units=16, **kwargs)

    model = run_model_checks(small, tmp_path)
    x, _ = vectors()
    mask = np.ones((48, 3), "float32")
    mask[::2, 1] = 0
    out = model.predict({**x, "modality_mask": mask}, verbose=0)
    for key in ("ici_fraction", "discriminative_power", "compensation"):
        assert out[key].shape == (48, 3)
        assert (0 <= out[key]).all() and (out[key] <= 1).all()
    for key in ("initial_logits", "kept_logits"):
        assert out[key].shape == (48, 3, 3)
    assert not {"analysis", "clean_z", "untouched"} & set(out)
    np.testing.assert_allclose(
        out["discriminative_power"].sum(axis=1), 1, atol=1e-6
    )
    missing = mask == 0
    assert (out["discriminative_power"][missing] == 0).all()
    assert (out["compensation"][missing] == 1).all()
    assert (out["ici_fraction"][missing] == 0).all()


# -- The course of a training --------------------------------------------------


@pytest.mark.slow_on("jax")
def test_every_part_learns_from_the_first_step():
    model = compiled(keras.optimizers.SGD(0.1), injection=0.0)
    fusion = model.fusion

    def values():
        parts = {
            "embed": model.embed.projections[0],
            "initial": fusion.initial_head,
            "kept": fusion.kept_head,
            "expert": fusion.expert_head,
            "power": fusion.discriminative_power,
            "removal": fusion.ici_removal,
            "compensation": fusion.compensate,
        }
        return {
            name: np.concatenate(
                [to_numpy(w).ravel() for w in part.trainable_weights]
            )
            for name, part in parts.items()
        }

    before = values()
    logs = step(model)
    assert all(logs[name] > 0 for name in LOSSES)
    assert {k for k, v in values().items() if (v != before[k]).any()} == set(
        before
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_nothing_is_injected_in_the_warm_up():
    model = make(injection=1.0, quality=None)
    for phase in (1, 2):
        begin(model, phase)
        record = model.call(X, training=True)["training_record"]
        assert (to_numpy(record["initial_mask"]) == 2 - phase).all()


@pytest.mark.slow_on("jax", "tensorflow")
def test_dropout_begins_at_nothing():
    """After ten epochs it is what was asked for."""
    found = {}
    for rate in (0.0, 0.9):
        keras.utils.set_random_seed(0)
        model = make(
            dropout=rate, input_dropout=rate, injection=0.0, removal=False
        )
        model.clock.plan(steps_per_epoch=3, epochs=20)
        for at in (0, 30):
            model.clock.step.assign(float(at))
            found[rate, at] = to_numpy(model.call(X, training=True)["logits"])
    np.testing.assert_array_equal(found[0.0, 0], found[0.9, 0])
    np.testing.assert_array_equal(found[0.0, 0], found[0.0, 30])
    assert np.abs(found[0.9, 30] - found[0.0, 30]).max() > 0.1


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_warm_up_is_a_fraction_of_the_steps():
    for epochs, expected in ((4, 6), (100, 45), (2, 3), (1, 1)):
        model = make()
        model.clock.plan(steps_per_epoch=3, epochs=epochs)
        assert float(model.clock.warmup_steps(model.warmup)) == expected


# -- Gradients ----------------------------------------------------------------


def term_gradients(model, names, weights):
    """Gradients of a sum of loss terms of a training step."""

    def loss():
        outputs = model.call(X, training=True)
        terms = model.auxiliary_losses(Y, outputs)
        return sum(terms[name] for name in names)

    return [np.abs(g).max() for g in gradients_of(loss, weights)]


@pytest.mark.slow_on("jax")
def test_losses_stop_where_they_must():
    model = make(injection=0.0)
    begin(model, 2)
    fusion = model.fusion
    kernel = model.embed.projections[0].kernel
    found = term_gradients(
        model,
        ["confidence_loss"],
        [kernel, fusion.kept_head.kernel, fusion.discriminative_power.kernel],
    )
    assert [g > 0 for g in found] == [False, False, True]


# -- Statistics ---------------------------------------------------------------


@pytest.mark.slow_on("jax", "tensorflow")
def test_predictions_change_no_statistic():
    model = compiled()
    step(model)
    before = statistics(model)
    model.predict(X, verbose=0)
    model.evaluate(X, Y, verbose=0)
    model.explain(X)
    after = statistics(model)
    # What an evaluation itself has seen, for its own check.
    for found in (before, after):
        del found["evaluation_counts"]
    assert_same(after, before)


@pytest.mark.slow_on("jax")
def test_no_augmentation_enters_a_statistic():
    noise = CorruptionAugmentation(
        noise_probability=0.8,
        shuffle_probability=0.3,
        drop_probability=0.3,
        seed=0,
    )
    plain = compiled(injection=0.0, input_dropout=0.0, dropout=0.0)
    other = compiled(
        injection=0.0, input_dropout=0.0, dropout=0.0, augmentation=noise
    )
    other.set_weights(plain.get_weights())
    for model in (plain, other):
        begin(model, 2)
    losses = [step(model)["loss"] for model in (plain, other)]
    assert abs(losses[0] - losses[1]) > 1e-3
    assert_same(statistics(other), statistics(plain), atol=1e-5)


@pytest.mark.slow_on("jax", "tensorflow")
def test_nothing_that_was_injected_enters_a_statistic():
    model = compiled(injection=1.0, quality=None)
    step(model)
    begin(model, 2)
    before = statistics(model)
    step(model)
    after = statistics(model)
    # Every modality of every sample was hit.
    found = [key for key in before if key.startswith(("ici_", "modality_"))]
    assert sum("global_ici" in key for key in found) == 4
    assert sum("modality_embedding" in key for key in found) >= 5
    for key in found:
        if "seed" not in key:
            np.testing.assert_array_equal(after[key], before[key], key)


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_missing_modality_takes_no_part_in_training():
    mask = np.ones((24, 2), "float32")
    mask[::3, 0] = 0
    found = []
    for value in (0.0, np.nan):
        keras.utils.set_random_seed(0)
        a = X["a"].copy()
        a[::3] = value
        model = compiled()
        begin(model, 2)
        step(model, {**X, "a": a, "modality_mask": mask})
        found.append([to_numpy(w) for w in model.weights])
    for zero, nothing in zip(*found, strict=True):
        np.testing.assert_array_equal(zero, nothing)
    # Equal to what the present samples alone would give.
    model = compiled(injection=0.0)
    step(model, {**X, "a": a, "modality_mask": mask})
    alone = X["a"][mask[:, 0] > 0].mean(axis=0)
    np.testing.assert_allclose(
        to_numpy(model.embed.center.mean)[0, :6], alone, atol=1e-5
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_integer_and_one_hot_labels_give_the_same_losses():
    logs = []
    for labels in (Y, np.eye(3, dtype="float32")[Y]):
        keras.utils.set_random_seed(0)
        model = compiled()
        begin(model, 2)
        found = step(model, y=labels)
        found["after"] = step(model, y=labels)["loss"]
        logs.append({k: float(v) for k, v in found.items()})
    assert logs[0] == pytest.approx(logs[1], abs=1e-6)


# -- Input quality ------------------------------------------------------------


def correlated(samples=120, seed=0):
    """Two classes, twelve features of three factors a modality."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % 2
    x = {}
    for name in ("a", "b"):
        h = rng.normal(size=(samples, 3)) + 2.0 * y[:, None]
        mix = np.random.default_rng(len(x)).normal(size=(3, 12))
        x[name] = h @ mix + 0.1 * rng.normal(size=(samples, 12))
    return {k: v.astype("float32") for k, v in x.items()}, y


@pytest.mark.slow_on("jax", "tensorflow")
def test_inputs_are_judged_before_they_are_mixed():
    x, y = correlated()
    model = make({"a": (12,), "b": (12,)}, classes=2)
    model.quality.adapt(x, y)
    bad = x["a"].copy()
    bad[:, ::4] += 20.0
    clean, noisy = (
        to_numpy(model.prepare_inputs({**x, "a": a})) for a in (x["a"], bad)
    )
    clean, noisy = (to_numpy(model.augment(v)) for v in (clean, noisy))
    error = np.abs(noisy["a"] - x["a"])[:, ::4].mean()
    assert error < 0.1 * 20.0
    assert clean["modality_quality"].min(axis=1).mean() > 0.9
    # The more features are lost, the less is believed, and nothing of none.
    qualities = [clean["modality_quality"][:, 0].mean()]
    for step in (4, 2, 1):
        bad = x["a"].copy()
        bad[:, ::step] += 20.0
        out = model.augment(model.prepare_inputs({**x, "a": bad}))
        qualities.append(to_numpy(out["modality_quality"])[:, 0].mean())
    assert (np.diff(qualities) < -0.1).all(), qualities
    assert qualities[-1] < 0.1


@pytest.mark.slow_on("jax", "tensorflow")
def test_powers_multiply_by_what_was_seen_of_the_input():
    x, _ = correlated()
    model = make({"a": (12,), "b": (12,)}, classes=2, quality=None)
    z = normal(10, 2, 8)
    quality = np.tile(np.array([[1.0, 0.1]], "float32"), (10, 1))
    plain, judged = (
        to_numpy(model.fusion(z, None, q)) for q in (None, quality)
    )
    np.testing.assert_allclose(judged["own_logits"], plain["own_logits"])
    odds = [
        out["discriminative_power"][:, 1] / out["discriminative_power"][:, 0]
        for out in (plain, judged)
    ]
    np.testing.assert_allclose(odds[1], 0.1 * odds[0], rtol=1e-4)


@pytest.mark.slow_on("jax", "tensorflow")
def test_data_that_can_be_read_once_train_without_a_judge():
    def batches():
        for start in (0, 12):
            part = slice(start, start + 12)
            yield {k: v[part] for k, v in X.items()}, Y[part]

    model = compiled()
    with pytest.warns(UserWarning, match="does without its InputQuality"):
        model.fit(batches(), steps_per_epoch=2, epochs=1, verbose=0)
    assert not model.quality.adapted


# -- Arguments ----------------------------------------------------------------


@pytest.mark.slow_on("tensorflow")
def test_noisy_training_data_are_not_confused_on_purpose():
    noise = CorruptionAugmentation()
    other = keras.layers.Identity()
    for augmentation, injection, expected in (
        (None, "auto", 0.3),
        (noise, "auto", 0.0),
        (other, "auto", 0.3),
        (noise, 0.2, 0.2),
        (None, 0, 0),
    ):
        model = make(augmentation=augmentation, injection=injection)
        assert model.injection_fraction == expected
        assert model.get_config()["injection"] == injection
        assert hasattr(model, "inject") == bool(expected)


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"units": 0}, "units=0"),
        ({"units": 2.5}, "units=2.5"),
        ({"dropout": 1.0}, "dropout"),
        ({"warmup": 0}, "warmup=0"),
        ({"warmup": 1.0}, "warmup=1.0"),
        ({"warmup": "0.1"}, "warmup='0.1'"),
        ({"injection": 1.5}, "injection=1.5"),
        ({"injection": "some"}, "injection='some'"),
        ({"input_dropout": 1.0}, "input_dropout=1.0"),
        ({"quality": "some"}, "quality='some'"),
        ({"modality_loss_weight": -1}, "modality_loss_weight=-1"),
        ({"divergence_weight": float("nan")}, "divergence_weight=nan"),
        ({"compensation_weight": None}, "compensation_weight=None"),
        ({"removal": "no"}, "removal='no'"),
        ({"weighting": 1}, "weighting=1"),
    ],
)
def test_bad_arguments_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        make(**kwargs)


@pytest.mark.one_backend
def test_a_loaded_model_has_no_layer_to_build(tmp_path):
    model = make()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    # JAX would run its first prediction operation by operation.
    assert loaded.inject.built
    assert all(layer.built for layer in loaded._flatten_layers())
