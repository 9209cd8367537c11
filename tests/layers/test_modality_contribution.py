import itertools
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import ModalityContribution
from keras_mmrel.layers.modality_contribution import TEMPERATURES
from keras_mmrel.shapley import shapley_weights
from tests.helpers import json_round_trip
from tests.helpers import to_numpy

MEASURES = ("combined", "information", "confidence")


def random_game(count, seed=0):
    """Values of all coalitions, by frozenset; 0 for the empty one."""
    rng = np.random.default_rng(seed)
    game = {frozenset(): 0.0}
    for size in range(1, count + 1):
        for members in itertools.combinations(range(count), size):
            game[frozenset(members)] = rng.uniform() * size
    return game


def brute_force(game, count):
    """Mean rise over all orderings of the players."""
    phi = np.zeros(count)
    for order in itertools.permutations(range(count)):
        for position, player in enumerate(order):
            before = frozenset(order[:position])
            phi[player] += game[before | {player}] - game[before]
    return phi / math.factorial(count)


def values_of(game, count):
    members, weights = shapley_weights(count)
    values = [game[frozenset(np.flatnonzero(row).tolist())] for row in members]
    return weights @ np.array(values)


def test_two_players_by_hand():
    game = {
        frozenset(): 0.0,
        frozenset({0}): 0.5,
        frozenset({1}): 0.2,
        frozenset({0, 1}): 0.6,
    }
    np.testing.assert_allclose(values_of(game, 2), [0.45, 0.15], atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_exact_values_are_means_over_all_orderings(count):
    game = random_game(count)
    np.testing.assert_allclose(
        values_of(game, count), brute_force(game, count), atol=1e-5
    )


@pytest.mark.parametrize("count", [2, 3, 6, 8])
def test_values_add_up_to_the_value_of_all(count):
    game = random_game(count, seed=count)
    everyone = game[frozenset(range(count))]
    assert abs(values_of(game, count).sum() - everyone) < 1e-5


def test_sampled_values_are_near_the_exact_ones_with_few_coalitions():
    game = random_game(8)
    exact, sampled = brute_force(game, 8), values_of(game, 8)
    spread = exact.max() - exact.min()
    assert np.abs(sampled - exact).max() < 0.35 * spread
    assert np.corrcoef(sampled, exact)[0, 1] > 0.9
    assert 12 < len(shapley_weights(12)[0]) < 2**12 / 2


def test_sampled_values_are_exact_where_modalities_interact_in_pairs():
    """What the reverse of every ordering is good for."""
    rng = np.random.default_rng(0)
    own, pairs = rng.normal(size=8), rng.normal(size=(8, 8))
    pairs = np.triu(pairs, 1)
    pairs = pairs + pairs.T
    members, weights = shapley_weights(8)
    values = members @ own + 0.5 * ((members @ pairs) * members).sum(axis=1)
    np.testing.assert_allclose(
        weights @ values, own + pairs.sum(axis=1) / 2, atol=1e-5
    )


@pytest.mark.parametrize("count", [3, 8])
def test_a_dummy_gets_nothing(count):
    game = random_game(count)
    dull = {c: game[c - {1}] for c in game}
    assert abs(values_of(dull, count)[1]) < 1e-6


def test_equal_players_get_equal_values():
    game = random_game(4)
    equal = {c: game[frozenset(range(len(c)))] for c in game}
    np.testing.assert_allclose(
        values_of(equal, 4), equal[frozenset(range(4))] / 4, atol=1e-6
    )
    swapped = {
        c: game[frozenset({0: 2, 2: 0}.get(p, p) for p in c)] for c in game
    }
    np.testing.assert_allclose(
        values_of(swapped, 4), values_of(game, 4)[[2, 1, 0, 3]], atol=1e-6
    )


# -- The layer ----------------------------------------------------------------


def batch(count=3, samples=40, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, samples)
    labels = np.eye(classes, dtype="float32")[y]
    strength = np.linspace(0, 3, count)[None, :, None]
    partial = rng.normal(size=(samples, count, classes))
    partial = partial + strength * labels[:, None]
    bias = 0.1 * rng.normal(size=classes)
    return labels, partial.astype("float32"), bias.astype("float32")


def tensors(*arrays):
    return [ops.convert_to_tensor(a, "float32") for a in arrays]


def updated(measure, labels, partial, bias, mask=None, rows=None, times=1):
    layer = ModalityContribution(measure)
    samples, count = partial.shape[:2]
    layer.build((None, count, partial.shape[2]))
    mask = np.ones((samples, count), "float32") if mask is None else mask
    rows = np.ones(samples, "float32") if rows is None else rows
    for _ in range(times):
        layer.update_statistics(*tensors(labels, partial, bias, mask, rows))
    return layer


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def value(labels, partial, bias, coalition):
    """Value of a coalition to each sample."""
    logits = partial[:, list(coalition)].sum(axis=1) + bias
    classes = labels.shape[1]
    own = (labels * log_softmax(logits)).sum(axis=1)
    return np.clip(1 + own / np.log(classes), -1, 1)


def confidence(labels, partial, bias):
    """Mean certainty of each modality, at the best of the temperatures."""
    found = []
    for index in range(partial.shape[1]):
        best = []
        for temperature in TEMPERATURES:
            log_p = log_softmax((partial[:, index] + bias) / temperature)
            entropy = -(np.exp(log_p) * log_p).sum(axis=-1).mean()
            certainty = 1 - entropy / np.log(labels.shape[1])
            best.append((-(labels * log_p).sum(axis=-1).mean(), certainty))
        found.append(min(best)[1])
    return np.array(found)


def expected_values(labels, partial, bias, mask=None):
    """Information of each sample, `(samples, modalities)`."""
    samples, count = partial.shape[:2]
    game = {
        frozenset(c): value(labels, partial, bias, c)
        for size in range(1, count + 1)
        for c in itertools.combinations(range(count), size)
    }
    game[frozenset()] = np.zeros(samples)
    if mask is not None:
        # The others alone are what a coalition with a missing one is worth.
        for c in list(game):
            for i in range(samples):
                there = frozenset(m for m in c if mask[i, m])
                game[c][i] = game[there][i]
    single = [
        brute_force({c: v[i] for c, v in game.items()}, count)
        for i in range(samples)
    ]
    return np.array(single)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("measure", MEASURES)
def test_contributions_of_a_batch_equal_a_plain_implementation(measure):
    labels, partial, bias = batch()
    layer = updated(measure, labels, partial, bias)
    information = expected_values(labels, partial, bias).mean(axis=0)
    certainty = confidence(labels, partial, bias)
    expected = {
        "information": information,
        "confidence": certainty,
        "combined": 0.5 * (np.maximum(information, 0) + certainty),
    }[measure]
    found = to_numpy(layer.contributions)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[2] > found[1] > found[0]
    fractions = np.exp(found / 0.25) / np.exp(found / 0.25).sum()
    np.testing.assert_allclose(to_numpy(layer.fractions), fractions, atol=1e-5)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("count", [2, 8])
def test_information_adds_up_to_the_value_of_all_modalities(count):
    labels, partial, bias = batch(count)
    layer = updated("information", labels, partial, bias)
    everyone = value(labels, partial, bias, range(count)).mean()
    assert abs(to_numpy(layer.contributions).sum() - everyone) < 1e-5


def test_confidence_does_not_follow_the_scale_of_the_logits():
    labels, partial, bias = batch()
    bias = 0 * bias
    louder = partial * np.array([1, 4.0, 1])[:, None]
    plain = updated("confidence", labels, partial, bias)
    found = updated("confidence", labels, louder, bias)
    # The grid of temperatures has steps of 0.2 on a scale of logarithms.
    steps = to_numpy(plain.certainties[1]) / to_numpy(plain.counts[1])
    best = int(to_numpy(plain.crossentropies[1]).argmin())
    step = np.abs(np.diff(steps))[best - 1 : best + 1].max()
    difference = to_numpy(found.contributions) - to_numpy(plain.contributions)
    assert np.abs(difference).max() <= step
    raw = int(np.argmin(np.abs(TEMPERATURES - 1)))
    certainty = [to_numpy(a.certainties[1])[raw] for a in (plain, found)]
    assert certainty[1] > certainty[0] + 2 * step * to_numpy(plain.counts[1])
    # Loud noise is confident, and its confidence is wrong.
    rng = np.random.default_rng(1)
    noise = 5 * rng.normal(size=partial.shape).astype("float32")
    layer = updated("confidence", labels, noise, bias)
    assert to_numpy(layer.contributions).max() < 0.1
    assert (to_numpy(layer.certainties)[:, raw] > 0.4 * 0.04 * 40).all()


def test_fractions_are_the_softmax_over_the_temperature():
    layer = ModalityContribution("information", temperature=0.25)
    layer.build((None, 2, 3))
    np.testing.assert_allclose(to_numpy(layer.contributions), [0.5, 0.5])
    layer.information.assign([0.45, 0.15])
    layer.counts.assign([1.0, 1.0])
    np.testing.assert_allclose(
        to_numpy(layer.fractions), [0.7685, 0.2315], atol=1e-4
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_batches_weigh_as_much_as_they_have_samples():
    labels, partial, bias = batch()
    layer = updated("information", labels[:30], partial[:30], bias)
    ones = np.ones((10, 3), "float32")
    layer.update_statistics(
        *tensors(labels[30:], partial[30:], bias, ones, ones[:, 0])
    )
    single = expected_values(labels, partial, bias)
    weight = np.r_[np.full(30, 0.96), np.ones(10)]
    np.testing.assert_allclose(
        to_numpy(layer.contributions),
        (weight[:, None] * single).sum(axis=0) / weight.sum(),
        atol=1e-5,
    )


def test_only_the_rows_asked_for_are_taken():
    labels, partial, bias = batch()
    rows = (np.arange(40) % 4 == 0).astype("float32")
    poisoned = partial.copy()
    poisoned[rows == 0] = np.nan
    a = updated("combined", labels, poisoned, bias, rows=rows)
    b = updated("combined", labels[::4], partial[::4], bias)
    np.testing.assert_allclose(
        to_numpy(a.contributions), to_numpy(b.contributions), atol=1e-6
    )
    none = updated("combined", labels, partial, bias, rows=0 * rows)
    np.testing.assert_allclose(to_numpy(none.contributions), 1 / 3)


def test_a_missing_modality_is_left_out_of_its_average_alone():
    labels, partial, bias = batch()
    mask = np.ones((40, 3), "float32")
    mask[::2, 2] = 0
    partial[::2, 2] = 0
    layer = updated("information", labels, partial, bias, mask)
    single = expected_values(labels, partial, bias, mask)
    np.testing.assert_allclose(
        to_numpy(layer.contributions),
        [*single[:, :2].mean(axis=0), single[1::2, 2].mean()],
        atol=1e-5,
    )


@pytest.mark.parametrize("measure", MEASURES)
def test_a_modality_missing_in_a_whole_batch_keeps_its_contribution(measure):
    labels, partial, bias = batch()
    layer = updated(measure, labels, partial, bias)
    before = to_numpy(layer.contributions)
    mask = np.ones((40, 3), "float32")
    mask[:, 1] = 0
    partial[:, 1] = 0
    layer.update_statistics(*tensors(labels, partial, bias, mask, mask[:, 0]))
    after = to_numpy(layer.contributions)
    assert after[1] == before[1]
    layer.update_statistics(
        *tensors(labels, partial, bias, 0 * mask, mask[:, 0])
    )
    np.testing.assert_array_equal(to_numpy(layer.contributions), after)


def test_permuting_modalities_permutes_contributions_and_fractions():
    labels, partial, bias = batch()
    order = [2, 0, 1]
    a = updated("combined", labels, partial, bias)
    b = updated("combined", labels, partial[:, order], bias)
    for name in ("contributions", "fractions"):
        np.testing.assert_allclose(
            to_numpy(getattr(b, name)),
            to_numpy(getattr(a, name))[order],
            atol=1e-6,
        )


def test_a_call_needs_no_labels_and_leaves_the_averages_alone():
    labels, partial, bias = batch()
    layer = updated("combined", labels, partial, bias)
    before = [to_numpy(w) for w in layer.weights]
    mask = np.ones((40, 3), "float32")
    mask[0] = [1, 0, 1]
    partial[0, 1] = 0
    found = to_numpy(layer(*tensors(partial, bias, mask)))
    predicted = np.eye(4)[(partial.sum(axis=1) + bias).argmax(axis=1)]
    expected = expected_values(predicted, partial, bias, mask)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[0, 1] == 0
    for weight, old in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), old)


def test_config_and_symbolic_shape():
    layer = ModalityContribution("combined", 0.5)
    assert json_round_trip(layer).get_config() == layer.get_config()
    shape = layer(
        keras.KerasTensor((None, 3, 4)),
        keras.KerasTensor((4,)),
        keras.KerasTensor((None, 3)),
    ).shape
    assert shape == (None, 3)
