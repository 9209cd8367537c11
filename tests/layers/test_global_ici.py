import numpy as np
import pytest

from keras_mmrel.layers._global_ici import GlobalICI
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy
from tests.micinet_models import normal
from tests.micinet_models import softmax

CLASSES, MODALITIES, SIZE, BATCH = 7, 2, 5, 12
Z = normal(BATCH, MODALITIES, SIZE)
P = softmax(normal(BATCH, MODALITIES, CLASSES, seed=1))
LABELS = np.arange(BATCH) % 5  # two classes are absent
MASK = np.ones((BATCH, MODALITIES), "float32")
MASK[::4, 0] = 0
STATES = ("counts", "sums", "squares", "confusion")


def build():
    """A layer of random class moments and confusion degrees."""
    layer = GlobalICI(CLASSES)
    layer.build(Z.shape)
    rng = np.random.default_rng(1)
    counts = rng.uniform(1, 9, size=layer.counts.shape)
    mean = rng.normal(size=layer.sums.shape)
    variance = rng.uniform(0.5, 2, size=mean.shape)
    layer.counts.assign(counts)
    layer.sums.assign(counts * mean)
    layer.squares.assign(counts * (variance + mean**2))
    degrees = rng.uniform(size=layer.confusion.shape) * (1 - np.eye(CLASSES))
    layer.confusion.assign(degrees / degrees.sum(axis=-1, keepdims=True))
    return layer


def states(layer):
    return {name: to_numpy(getattr(layer, name)) for name in STATES}


def test_standard_checks():
    run_layer_checks(
        GlobalICI(CLASSES),
        [Z, P],
        output_shapes={
            "mean": (BATCH, MODALITIES, SIZE),
            "variance": (BATCH, MODALITIES, SIZE),
        },
    )


def test_the_prior_is_the_exact_moment_match_of_all_pairs():
    layer = build()
    counts, sums, squares, degrees = states(layer).values()
    mu = sums / counts
    var = squares / counts - mu**2
    first, second = np.zeros_like(Z), np.zeros_like(Z)
    for c in range(CLASSES):
        for other in range(CLASSES):
            mean = (mu[:, c] + mu[:, other]) / 2
            variance = (var[:, c] + var[:, other]) / 2
            weight = (P[:, :, c] * degrees[:, c, other])[:, :, None]
            first += weight * mean
            second += weight * (variance + mean**2)
    out = to_numpy(layer(Z, P))
    np.testing.assert_allclose(out["mean"], first, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out["variance"], second - first**2, rtol=1e-4)


def test_the_ici_of_two_classes_does_not_tell_them_apart():
    layer = GlobalICI(2)
    z = normal(40, 1, SIZE)
    labels = np.arange(40) % 2
    z[labels == 1] += 3.0
    layer.update_statistics(z, labels, np.full((40, 1, 2), 0.5))
    sure = np.eye(2, dtype="float32")[:, None]
    mean = to_numpy(layer(z[:2], sure))["mean"][:, 0]
    # The same for both, and as far from the one as from the other.
    np.testing.assert_allclose(mean[0], mean[1], atol=1e-4)
    centres = [z[labels == c, 0].mean(axis=0) for c in (0, 1)]
    distances = [np.linalg.norm(mean[0] - centre) for centre in centres]
    assert distances[0] == pytest.approx(distances[1], rel=1e-3)
    assert distances[0] > 1.0


def test_before_any_batch_the_prior_is_the_standard_normal():
    out = to_numpy(GlobalICI(CLASSES)(Z, P))
    np.testing.assert_allclose(out["mean"], 0, atol=1e-6)
    np.testing.assert_allclose(out["variance"], 1, rtol=1e-3)


def test_variances_never_vanish():
    layer = build()
    layer.sums.assign(0.0 * layer.sums)
    layer.squares.assign(0.0 * layer.squares)
    variance = to_numpy(layer(Z, P))["variance"]
    np.testing.assert_allclose(variance, 1e-2, rtol=1e-5)


def test_a_batch_moves_the_classes_that_it_holds():
    layer = build()
    before = states(layer)
    one_hot = np.eye(CLASSES, dtype="float32")[LABELS]
    layer.update_statistics(Z, one_hot, P, MASK, decay=0.9)
    after = states(layer)
    for name in STATES:
        same = after[name][:, 5:] == before[name][:, 5:]
        assert same.all(), name
    for m in range(MODALITIES):
        for c in range(5):
            rows = (LABELS == c) & (MASK[:, m] > 0)
            expected = 0.9 * before["counts"][m, c] + rows.sum()
            np.testing.assert_allclose(after["counts"][m, c], expected)
            for name, values in (("sums", Z), ("squares", Z**2)):
                expected = 0.9 * before[name][m, c] + values[rows, m].sum(0)
                np.testing.assert_allclose(
                    after[name][m, c], expected, rtol=1e-4, atol=1e-5
                )
            taken = P[rows, m].sum(axis=0) + 1e-3
            taken[c] = 0
            expected = 0.95 * before["confusion"][m, c]
            expected = expected + 0.05 * taken / taken.sum()
            np.testing.assert_allclose(
                after["confusion"][m, c], expected, atol=1e-5
            )


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="batch, modalities, features"):
        GlobalICI(3)(Z[:, 0], P)
    with pytest.raises(ValueError, match="batch, modalities, 3"):
        GlobalICI(3)(Z, np.ones((BATCH, MODALITIES, 5)))
