"""MICINet on the real digits and ROSMAP: what its mechanisms must do."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import keras_mmrel
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import MissingModality
from keras_mmrel.corruptions import UnalignedSamples

SEEDS = (1, 2)
SIGMAS = (0.2, 0.5, 1.0, 5.0)
ROSMAP = Path(os.environ.get("KERAS_MMREL_DATA", "")) / "rosmap"
# Of each modality's samples 30 %, drawn independently.
UNALIGNED = UnalignedSamples(1.0, "independent", 0.3)

# Of every modality's features 30 %.
FEATURES = GaussianNoise(1.0, "all", feature_fraction=0.3)

pytestmark = pytest.mark.slow


def fit(data, seed, model_class=keras_mmrel.MICINet, **kwargs):
    """Train 250 steps on clean data; return the model."""
    keras.utils.set_random_seed(seed)
    x, y = data
    shapes = {name: values.shape[1:] for name, values in x.items()}
    model = model_class(shapes, int(y.max()) + 1, **kwargs)
    steps = -(-len(y) // 128)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [150], [3e-3, 6e-4]
    )
    model.compile(keras.optimizers.AdamW(rate))
    model.fit(x, y, batch_size=128, epochs=round(250 / steps), verbose=0)
    return model


def one(sigma):
    return GaussianNoise(sigma, target="one")


def predict(model, x, *corruptions):
    for corruption in corruptions:
        x = corruption(x, seed=0)
    return model.predict(x, batch_size=1024, verbose=0)


def accuracy(outputs, y):
    return (outputs["logits"].argmax(axis=1) == y).mean()


@pytest.fixture(scope="module")
def digits():
    return keras_mmrel.datasets.load_multiview_digits("all")


@pytest.fixture(scope="module")
def models(digits):
    return [fit(digits[0], seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def late(digits):
    return fit(digits[0], 1, keras_mmrel.LateFusion)


def mean_of(models, function):
    return np.mean([function(model) for model in models], axis=0)


def test_the_quality_falls_with_noise(models, digits):
    x = digits[1][0]

    def qualities(model):
        found = [predict(model, x)["modality_quality"].mean()]
        for sigma in SIGMAS:
            out = predict(model, x, one(sigma))
            hit = one(sigma).corrupted(x, seed=0)
            found.append(out["modality_quality"][hit].mean())
        return found

    clean, *noisy = mean_of(models, qualities)
    assert clean >= 0.93
    assert (np.diff([clean, *noisy]) < 0).all(), noisy
    assert noisy[2] <= 0.2


@pytest.mark.parametrize(
    "corruption, at_least", [(one(1.0), 0.95), (UNALIGNED, 0.80)]
)
def test_confidence_finds_what_was_corrupted(
    models, digits, corruption, at_least
):
    x = digits[1][0]
    hit = corruption.corrupted(x, seed=0).ravel()

    def auroc(model):
        found = predict(model, x, corruption)["confidence"].ravel()
        return roc_auc_score(~hit, found)

    assert mean_of(models, auroc) >= at_least


@pytest.mark.parametrize(
    "corruptions, at_least",
    [
        ((), 0.96),
        ((one(1.0),), 0.95),
        ((one(5.0),), 0.95),
        # One sample of 32 has no clean modality left.
        ((GaussianNoise(5.0, "independent"),), 0.86),
        ((one(1.0), UNALIGNED), 0.77),
        ((FEATURES,), 0.9),
        ((MissingModality(1.0, target="one"),), 0.93),
    ],
    ids=["clean", "one 1", "one 5", "half 5", "both", "features", "missing"],
)
def test_accuracy_clean_and_corrupted(models, digits, corruptions, at_least):
    x, y = digits[1]
    found = mean_of(
        models, lambda model: accuracy(predict(model, x, *corruptions), y)
    )
    assert found >= at_least


def test_late_fusion_breaks_where_half_of_the_modalities_are_noise(
    models, late, digits
):
    x, y = digits[1]
    noise = GaussianNoise(5.0, "independent")
    own, other = (
        mean_of(group, lambda model: accuracy(predict(model, x, noise), y))
        for group in (models, [late])
    )
    assert own >= other + 0.15


@pytest.mark.parametrize(
    "corruption, gain", [(one(1.0), 0.25), (UNALIGNED, 0.08)]
)
def test_compensation_repairs_corrupted_modalities_and_no_others(
    models, digits, corruption, gain
):
    x, y = digits[1]
    hit = corruption.corrupted(x, seed=0)

    def gains(model):
        out = predict(model, x, corruption)
        kept, repaired = (
            out[key].argmax(axis=2) == y[:, None]
            for key in ("kept_logits", "modality_logits")
        )
        rise = repaired.astype("float64") - kept
        intact = predict(model, x)
        own = [
            (intact[key].argmax(axis=2) == y[:, None]).mean()
            for key in ("kept_logits", "modality_logits")
        ]
        return rise[hit].mean(), own[1] - own[0]

    corrupted, intact = mean_of(models, gains)
    assert corrupted >= gain
    assert intact > -0.03


def test_the_global_ici_is_learnt(models):
    for model in models:
        learner = model.fusion.global_ici
        variance = np.asarray(
            keras.ops.convert_to_numpy(learner.squares / learner.counts)
        )
        assert (variance > 1e-3).all()


@pytest.mark.skipif(
    not ROSMAP.is_dir(), reason="KERAS_MMREL_DATA names no folder with `rosmap`"
)
def test_single_noisy_features_do_not_break_few_samples_of_many():
    train, (x, y) = keras_mmrel.datasets.load_rosmap(ROSMAP)
    judged, plain = (
        np.mean(
            [
                accuracy(predict(fit(train, seed, **options), x, FEATURES), y)
                for seed in SEEDS
            ]
        )
        for options in ({}, {"quality": None})
    )
    assert judged >= plain + 0.08
