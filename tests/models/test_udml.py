import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.contract import TRAINING_RECORD
from tests.helpers import SHAPES
from tests.helpers import run_model_checks
from tests.helpers import vectors

X, Y = vectors()


def make(**options):
    return keras_mmrel.UDML(SHAPES, 3, seed=0, **options)


def at(model, progress):
    """A model so far in its training."""
    model.clock.plan(100, 1)
    model.clock.step.assign(100.0 * progress)
    model.clock.progress.assign(progress)
    return model


def trained_output(model, x=X):
    inputs = {name: ops.convert_to_tensor(v) for name, v in x.items()}
    return model(inputs, training=True)


def to_numpy(value):
    return ops.convert_to_numpy(value)


def test_standard_checks(tmp_path):
    run_model_checks(keras_mmrel.UDML, tmp_path)


@pytest.mark.one_backend
def test_standard_checks_without_moments_of_a_batch(tmp_path):
    def by_layer(modalities, num_classes, **options):
        return keras_mmrel.UDML(
            modalities, num_classes, normalization="layer", **options
        )

    run_model_checks(by_layer, tmp_path)


@pytest.mark.parametrize("unbiased", [True, False])
def test_weights_are_of_mean_1_over_what_is_there(unbiased):
    model = make(unbiased=unbiased)
    model.dependence.assign([4.0, 1.0, 2.0])
    mask = np.ones((48, 3), "float32")
    mask[::2, 1] = 0
    mask[3] = [1, 0, 0]
    out = model.predict({**X, "modality_mask": mask}, verbose=0)
    weight, level = out["fusion_weight"], out["noise_level"]
    np.testing.assert_allclose(weight.sum(1), mask.sum(1), rtol=1e-5)
    assert (weight[mask == 0] == 0).all() and (level[mask == 0] == 0).all()
    assert weight[3].tolist() == [1, 0, 0]
    expected = mask / np.where(mask > 0, level, 1.0) ** 2
    if unbiased:
        expected = expected / [4.0, 1.0, 2.0]
    expected *= (mask.sum(1) / expected.sum(1))[:, None]
    np.testing.assert_allclose(weight, expected, rtol=1e-4)
    np.testing.assert_allclose(
        out["confidence"],
        mask * np.minimum(1 / np.where(mask > 0, level, 1.0) ** 2, 1),
        rtol=1e-4,
    )


def test_a_feature_is_multiplied_by_one_plus_its_weight():
    model = make(unbiased=False)
    kernel = model.head[1].kernel
    kernel.assign(np.zeros(kernel.shape))
    own = model.predict(X, verbose=0)["modality_logits"]
    np.testing.assert_allclose(own[:, 1], 0, atol=1e-6)
    mask = np.ones((48, 3), "float32")
    mask[:, 1:] = 0
    alone = model.predict({**X, "modality_mask": mask}, verbose=0)
    weight = model.predict(X, verbose=0)["fusion_weight"][:, :1]
    # Alone it weighs 1, so its feature is doubled.
    np.testing.assert_allclose(
        own[:, 0] / (1 + weight), alone["modality_logits"][:, 0] / 2, rtol=1e-3
    )


@pytest.mark.slow_on("jax")
def test_noise_and_weights_come_when_they_are_due():
    model = make(noise_from=0.5, weights_from=0.75, noise_probability=0.5)
    early = trained_output(at(model, 0.25))
    assert (to_numpy(early[TRAINING_RECORD]["level"]) == 1).all()
    np.testing.assert_allclose(to_numpy(early["fusion_weight"]), 1, rtol=1e-6)
    many = {name: np.tile(v, (20, 1)) for name, v in X.items()}
    later = trained_output(at(model, 0.6), many)
    level = to_numpy(later[TRAINING_RECORD]["level"])
    assert set(np.unique(level)) == set(range(1, 12))
    clean = (level == 1).all(axis=1).mean()
    assert abs(clean - 0.5) < 0.1
    np.testing.assert_allclose(to_numpy(later["fusion_weight"]), 1, rtol=1e-6)
    last = trained_output(at(model, 0.8))
    assert np.ptp(to_numpy(last["fusion_weight"])) > 0.01


def test_noise_is_of_its_level_and_spares_integers():
    model = at(make(noise_probability=1.0, noise_unit=0.5), 1.0)
    x = {n: np.zeros((500, *s), "float32") for n, s in SHAPES.items()}
    x["c"] = x["c"].astype("int32")
    prepared = model.prepare_inputs(
        {n: ops.convert_to_tensor(v) for n, v in x.items()}
    )
    prepared["c"] = ops.cast(prepared["c"], "int32")
    noisy, level = model._with_noise(prepared)
    level, a = to_numpy(level), to_numpy(noisy["a"])
    assert (level[:, 2] == 1).all() and (to_numpy(noisy["c"]) == 0).all()
    assert (a[level[:, 0] == 1] == 0).all()
    for number in (2, 6, 11):
        rows = a[level[:, 0] == number]
        assert abs(rows.std() / (0.5 * number) - 1) < 0.25
    assert abs(np.corrcoef(level[:, 0], level[:, 1])[0, 1]) < 0.2


def test_dependence_is_the_size_of_what_one_modality_makes_the_head_say():
    model = make()
    mask = np.ones((48, 3), "float32")
    mask[::3, 0] = 0
    mask[:, 2] = 0
    outputs = model({**X, "modality_mask": mask}, training=True)
    model.update_statistics(Y, outputs)
    own = np.abs(to_numpy(outputs["modality_logits"])).sum(-1)
    expected = [own[mask[:, 0] > 0, 0].mean(), own[:, 1].mean(), 1.0]
    np.testing.assert_allclose(to_numpy(model.dependence), expected, rtol=1e-4)


@pytest.mark.slow_on("jax", "tensorflow")
def test_it_learns_to_say_how_noisy_a_modality_is_and_trusts_it_less():
    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    x = {
        name: (np.eye(3)[y] @ rng.normal(size=(3, size)) * 2)
        + rng.normal(size=(600, size))
        for name, size in (("a", 12), ("b", 12))
    }
    x = {name: v.astype("float32") for name, v in x.items()}
    # These features have a deviation of two, not of a part of one.
    shapes = {"a": (12,), "b": (12,)}
    model = keras_mmrel.UDML(shapes, 3, noise_unit=0.2, seed=0)
    model.compile()
    model.fit(x, y, epochs=30, batch_size=50, verbose=0)
    clean = model.predict(x, verbose=0)
    noise = {"a": x["a"] + 4.0 * rng.normal(size=x["a"].shape), "b": x["b"]}
    noisy = model.predict(noise, verbose=0)
    said, before = noisy["noise_level"], clean["noise_level"]
    assert said[:, 0].mean() > 2.0 * before[:, 0].mean()
    np.testing.assert_allclose(said[:, 1], before[:, 1], rtol=1e-5)
    fall = clean["fusion_weight"][:, 0] - noisy["fusion_weight"][:, 0]
    assert fall.mean() > 0.2 and (fall > 0).mean() > 0.9
    assert noisy["confidence"][:, 0].mean() < clean["confidence"][:, 0].mean()


def test_terms_that_only_training_knows_are_0_in_evaluation():
    model = make()
    model.compile()
    logs = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert logs["gaussian_loss"] == logs["level_loss"] == 0
    assert logs["modality_loss"] > 0


@pytest.mark.parametrize(
    "options, name",
    [
        ({"noise_unit": 0.0}, "noise_unit"),
        ({"noise_from": 1.5}, "noise_from"),
        ({"normalization": "group"}, "normalization"),
        ({"level_loss_weight": -1.0}, "level_loss_weight"),
    ],
)
def test_bad_input(options, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        make(**options)
