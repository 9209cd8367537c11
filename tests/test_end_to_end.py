"""QADM-Net on the real digits: accuracy and the mechanisms of the spec."""

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import keras_mmrel
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import MissingModality

pytestmark = pytest.mark.slow_on("tensorflow")

SIGMAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(1)
    (x, y), (x_test, y_test) = keras_mmrel.datasets.load_multiview_digits()
    model = keras_mmrel.QADMNet({k: v.shape[1:] for k, v in x.items()}, 10)
    model.compile(keras.optimizers.AdamW(5e-3))
    model.fit(x, y, batch_size=128, epochs=20, verbose=0)
    return model, x_test, y_test


@pytest.fixture(scope="module")
def clean(trained):
    model, x, _ = trained
    return model.predict(x, verbose=0)


def accuracy(outputs, y):
    return (outputs["logits"].argmax(axis=1) == y).mean()


@pytest.mark.slow_on("jax")
def test_accuracy_on_unseen_digits(trained, clean):
    assert accuracy(clean, trained[2]) >= 0.95


def test_accuracy_survives_a_corrupted_modality(trained, clean):
    model, x, y = trained
    noisy = GaussianNoise(1.0, target="one")(x, seed=0)
    assert accuracy(model.predict(noisy, verbose=0), y) >= 0.90
    missing = MissingModality(1.0, target="one")(x, seed=0)
    assert accuracy(model.predict(missing, verbose=0), y) >= 0.90


def test_depth_and_confidence_fall_with_noise_and_only_where_it_is(
    trained, clean
):
    model, x, _ = trained
    depth, confidence = [], []
    for sigma in SIGMAS:
        out = model.predict(
            GaussianNoise(sigma, target="pixels")(x, seed=0), verbose=0
        )
        depth.append(out["depth"][:, 0].mean())
        confidence.append(out["confidence"][:, 0].mean())
        np.testing.assert_allclose(
            out["confidence"][:, 1:], clean["confidence"][:, 1:], atol=1e-5
        )
    assert (np.diff(depth) <= 0.02).all(), depth
    assert (np.diff(confidence) <= 0.05).all(), confidence
    assert depth[0] > 0.75 * model.max_depth
    # Softly: what is noisy may still be worth a block.
    assert max(depth[5:]) <= 0.4 * model.max_depth, depth
    assert max(confidence[5:]) <= 0.35 * confidence[0]


@pytest.mark.parametrize("sigma, at_least", [(0.2, 0.80), (0.5, 0.98)])
def test_confidence_finds_the_corrupted_modality(trained, sigma, at_least):
    model, x, _ = trained
    corruption = GaussianNoise(sigma, target="one")
    out = model.predict(corruption(x, seed=0), verbose=0)
    hit = corruption.corrupted(x, seed=0)
    score = roc_auc_score(~hit.ravel(), out["confidence"].ravel())
    assert score >= at_least


def test_an_unannounced_missing_modality_is_found(trained):
    model, x, _ = trained
    corruption = MissingModality(1.0, target="one", announce=False)
    out = model.predict(corruption(x, seed=0), verbose=0)
    hit = corruption.corrupted(x, seed=0)
    assert roc_auc_score(~hit.ravel(), out["confidence"].ravel()) >= 0.8


def test_without_typicality_noise_is_hard_to_find(trained):
    """A negative control: the test above is not trivial."""
    model, x, _ = trained
    corruption = GaussianNoise(1.0, target="one")
    out = model.predict(corruption(x, seed=0), verbose=0)
    logits = out["prototype_logits"]
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    cosine_only = (p / p.sum(axis=-1, keepdims=True)).max(axis=-1)
    hit = corruption.corrupted(x, seed=0)
    assert roc_auc_score(~hit.ravel(), cosine_only.ravel()) < 0.95


def test_extreme_noise_everywhere_stays_finite(trained):
    model, x, _ = trained
    out = model.predict(GaussianNoise(50.0)(x, seed=0), verbose=0)
    assert all(np.isfinite(value).all() for value in out.values())
    np.testing.assert_allclose(out["fusion_weights"].sum(axis=1), 1, atol=1e-5)


def test_the_answer_to_a_sample_does_not_depend_on_the_batch(trained, clean):
    model, x, _ = trained
    alone = model.predict({k: v[:7] for k, v in x.items()}, verbose=0)
    for key, value in alone.items():
        np.testing.assert_allclose(value, clean[key][:7], atol=1e-5)
