import json

import keras
import numpy as np
import pytest

from keras_mmrel.evaluation import ConformalSets
from keras_mmrel.evaluation import SelectiveRule
from keras_mmrel.evaluation import TemperatureScaling

pytestmark = [
    pytest.mark.one_backend,
    pytest.mark.filterwarnings("ignore:A coverage"),
]

REPEATS = 300
FRESH = 200
CONFIGS = [
    {"method": "threshold"},
    {"method": "threshold", "allow_empty": True},
    {"method": "aps"},
    {"method": "aps", "allow_empty": True},
    {"method": "aps", "randomized": True, "allow_empty": True},
]


def draw(samples, seed, classes=4, sharpness=1.0, honest=True):
    """Probabilities, and labels drawn from them or at random.

    Args:
        sharpness: Small for a model that is sure.
        honest: Whether labels follow the probabilities.
    """
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([sharpness] * classes, size=samples)
    truth = p if honest else rng.permuted(p, axis=1)
    y = (truth.cumsum(axis=1) < rng.random((samples, 1))).sum(axis=1)
    return p, np.minimum(y, classes - 1)


def coverages(samples, repeats=REPEATS, sharpness=1.0, honest=True, **config):
    """Share of fresh samples that are covered, one a calibration set."""
    found = []
    for seed in range(repeats):
        p, y = draw(samples + FRESH, seed, sharpness=sharpness, honest=honest)
        sets = ConformalSets(**config).fit(p[:samples], y[:samples])
        fresh = sets.predict(p[samples:])
        found.append(fresh[np.arange(FRESH), y[samples:]].mean())
    return np.array(found)


def tolerance(found):
    """Three standard errors of the mean over calibration sets."""
    return 3.0 * found.std() / np.sqrt(len(found))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("sharpness", [0.03, 1.0])
def test_coverage_holds_for_sure_unsure_and_wrong_models(
    config, honest, sharpness
):
    found = coverages(
        40, repeats=120, sharpness=sharpness, honest=honest,
        coverage=0.8, **config,
    )  # fmt: skip
    assert found.mean() >= 0.8 - tolerance(found)


@pytest.mark.parametrize("method", ["threshold", "aps"])
def test_coverage_is_exact_in_the_smallest_samples(method):
    # Of continuous scores, rank 5 of 6 covers 5 / 6; the 80 % quantile without
    # the correction, rank 4 of 5 or an interpolated one, covers below 0.8.
    found = coverages(
        5, repeats=1500, coverage=0.8, method=method, allow_empty=True,
        randomized=method == "aps",
    )  # fmt: skip
    assert abs(found.mean() - 5 / 6) < tolerance(found)
    assert 4 / 6 < 0.8 - tolerance(found)
    assert 5 / 6 > 0.8 + tolerance(found)


def test_every_class_is_covered_if_asked_for():
    means = {True: [], False: []}
    for seed in range(60):
        p, y = draw(1000, seed)
        # The model never believes in class 3.
        p[:, 3] *= 0.05
        p /= p.sum(axis=1, keepdims=True)
        for each, values in means.items():
            sets = ConformalSets(0.8, "threshold", class_conditional=each)
            sets.fit(p[:500], y[:500])
            covered = sets.predict(p[500:])[np.arange(500), y[500:]]
            values.append([covered[y[500:] == c].mean() for c in range(4)])
    by_class = np.mean(means[True], axis=0)
    assert by_class.min() >= 0.78
    assert np.mean(means[False], axis=0)[3] < 0.5


def test_threshold_sets_hold_all_classes_above_a_common_probability():
    p = np.array([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.8, 0.15, 0.05]])
    # Scores -0.5, -0.3 and -0.8; rank ceil(4 * 0.75) = 3 is the largest.
    sets = ConformalSets(0.75, "threshold").fit(p, np.array([0, 1, 0]))
    np.testing.assert_allclose(sets.thresholds, [-0.3] * 3)
    np.testing.assert_array_equal(
        sets.predict(np.array([[0.29, 0.31, 0.4], [0.25, 0.28, 0.47]])),
        [[False, True, True], [False, False, True]],
    )


def test_aps_sets_hold_the_most_likely_classes_up_to_a_total():
    p = np.array([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.8, 0.15, 0.05]])
    # 0.5, 0.1 and 0.2 are left.
    sets = ConformalSets(0.75).fit(p, np.array([0, 1, 0]))
    np.testing.assert_allclose(sets.thresholds, [-0.1] * 3)
    np.testing.assert_array_equal(
        sets.predict(np.array([[0.2, 0.1, 0.7], [0.3, 0.1, 0.6]])),
        [[True, False, True], [True, False, True]],
    )
    sure = np.array([[0.95, 0.03, 0.02]])
    np.testing.assert_array_equal(sets.predict(sure), [[True, False, False]])
    empty = ConformalSets(0.75, allow_empty=True).fit(p, np.array([0, 1, 0]))
    assert not empty.predict(sure).any()


def test_randomised_aps_comes_nearer_to_the_coverage_with_smaller_sets():
    p, y = draw(4000, seed=0)
    found = {}
    for randomized in (False, True):
        sets = ConformalSets(0.8, randomized=randomized, allow_empty=True)
        sets.fit(p[:2000], y[:2000])
        found[randomized] = sets.evaluate(p[2000:], y[2000:])
    assert found[True]["size"] < found[False]["size"]
    assert abs(found[True]["coverage"] - 0.8) < 0.03


def test_a_sample_gets_the_same_set_alone_and_in_a_batch():
    p, y = draw(200, seed=0)
    sets = ConformalSets(0.8, randomized=True).fit(p, y)
    alone = [sets.predict(row[None])[0] for row in p]
    np.testing.assert_array_equal(sets.predict(p), alone)
    other = ConformalSets(0.8, randomized=True, seed=1).fit(p, y)
    assert (other.predict(p) != sets.predict(p)).any()


def answers(kind, rng, samples, classes):
    """Probabilities in float32 as models give them, and labels."""
    y = rng.integers(0, classes, samples)
    right = rng.random(samples) < 0.97
    top = np.where(right, y, (y + 1 + rng.integers(0, classes - 1)) % classes)
    if kind == "uniform":
        return np.full((samples, classes), 1 / classes, "float32"), y
    if kind == "ties":
        rest = (1.0 - 0.4) / (classes - 1)
        p = np.full((samples, classes), rest)
        p[np.arange(samples), top] = 0.4
        return p.astype("float32"), y
    if kind == "sharp and vague":
        logits = rng.normal(size=(samples, classes))
        scale = np.where(rng.random(samples) < 0.5, 0.01, 100.0)[:, None]
        logits = logits * scale
    else:
        margin = {"one-hot": np.inf, "margin 40": 40.0, "margin 5": 5.0}[kind]
        logits = np.full((samples, classes), -margin)
        logits[np.arange(samples), top] = 0.0
        if kind == "margin 5":
            logits += rng.normal(size=logits.shape)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (p / p.sum(axis=1, keepdims=True)).astype("float32"), y


KINDS = ["one-hot", "margin 40", "margin 5", "uniform", "ties"]
KINDS += ["sharp and vague"]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes, samples", [(2, 19), (7, 60), (1000, 9)])
def test_coverage_holds_for_models_of_every_kind(
    kind, classes, samples, config
):
    found = []
    for seed in range(30 if classes == 1000 else 100):
        rng = np.random.default_rng([seed, classes])
        p, y = answers(kind, rng, samples + 50, classes)
        sets = ConformalSets(0.9, **config).fit(p[:samples], y[:samples])
        covered = sets.predict(p[samples:])[np.arange(50), y[samples:]]
        found.append(covered.mean())
    found = np.array(found)
    # Three standard errors, at least those of the number of samples.
    error = max(tolerance(found), 3 * np.sqrt(0.09 / len(found) / 50))
    assert found.mean() >= 0.9 - error


@pytest.mark.parametrize("config", CONFIGS)
def test_one_calibration_sample_is_enough_for_half(config):
    found = []
    for seed in range(1000):
        p, y = draw(2, seed)
        sets = ConformalSets(0.5, **config).fit(p[:1], y[:1])
        found.append(sets.predict(p[1:])[0, y[1]])
    assert np.mean(found) >= 0.5 - tolerance(np.array(found))


@pytest.mark.parametrize("kind", ["one-hot", "margin 40"])
@pytest.mark.parametrize("config", CONFIGS)
def test_sets_of_a_saturated_model_hold_its_answer_alone(kind, config):
    rng = np.random.default_rng(0)
    p, y = answers(kind, rng, 2000, 7)
    sets = ConformalSets(0.9, **config).fit(p[:1000], y[:1000])
    result = sets.evaluate(p[1000:], y[1000:])
    assert result["size"] <= 1.0
    assert result["coverage"] >= 0.88


@pytest.mark.parametrize("method", ["aps", "threshold"])
def test_more_coverage_than_a_saturated_model_has_is_warned_of(method):
    rng = np.random.default_rng(0)
    p, y = answers("one-hot", rng, 2000, 7)
    y = np.where(rng.random(2000) < 0.3, rng.integers(0, 7, 2000), y)
    with pytest.warns(UserWarning, match="end between classes .* equally"):
        sets = ConformalSets(0.9, method).fit(p[:1000], y[:1000])
    # The answer, and as many other classes as it takes.
    assert 3 < sets.evaluate(p[1000:], y[1000:])["size"] < 7
    with pytest.warns(UserWarning, match="every set holds all 7 classes"):
        ConformalSets(0.999, method).fit(p, y)


def test_a_constant_model_is_warned_of():
    p = np.full((100, 5), 0.2)
    with pytest.warns(UserWarning, match="100 sets end between classes"):
        ConformalSets(0.5).fit(p, np.arange(100) % 5)


def test_a_class_of_some_probability_comes_before_one_of_none():
    p = np.array([[0.6, 0.4, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    sets = ConformalSets(0.5, thresholds=[0.0] * 4)
    np.testing.assert_array_equal(sets.predict(p), p > 0)
    sets = ConformalSets(0.5, thresholds=[1.0] * 4)
    np.testing.assert_array_equal(sets.predict(p).sum(axis=1), [3, 2])


def test_evaluate_counts():
    p = np.array([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.8, 0.15, 0.05]])
    sets = ConformalSets(0.75, "threshold", thresholds=[-0.3, -0.3, -0.3])
    assert sets.evaluate(p, np.array([0, 2, 0])) == {
        "coverage": 2 / 3,
        "worst_class_coverage": 0.0,
        "size": 5 / 3,
        "single": 1 / 3,
    }


def test_outputs_tensors_and_one_hot_labels_are_taken():
    p, y = draw(100, seed=0)
    p = p.astype("float32")
    expected = ConformalSets().fit(p, y)
    tensor = keras.ops.convert_to_tensor(p)
    sets = ConformalSets().fit({"probabilities": tensor}, np.eye(4)[y])
    np.testing.assert_array_equal(sets.thresholds, expected.thresholds)
    np.testing.assert_array_equal(sets.predict(tensor), expected.predict(p))


@pytest.mark.parametrize("config", [*CONFIGS, {"class_conditional": True}])
def test_fitted_sets_survive_a_file(config, tmp_path):
    p, y = draw(200, seed=0)
    sets = ConformalSets(0.85, seed=3, **config).fit(p, y)
    sets.save(tmp_path / "sets.json")
    loaded = ConformalSets.load(tmp_path / "sets.json")
    assert loaded.get_config() == sets.get_config()
    np.testing.assert_array_equal(loaded.predict(p), sets.predict(p))
    assert json.loads((tmp_path / "sets.json").read_text())["config"]
    with pytest.raises(TypeError, match="holds a ConformalSets"):
        TemperatureScaling.load(tmp_path / "sets.json")


def test_damaged_file_is_refused(tmp_path):
    path = tmp_path / "sets.json"
    path.write_text('{"class_name"')
    with pytest.raises(ValueError, match="ConformalSets.save"):
        ConformalSets.load(path)
    with pytest.raises(FileNotFoundError):
        SelectiveRule.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "coverage, needed", [(0.9, 9), (0.95, 19), (0.99, 99), (0.55, 2)]
)
def test_too_few_samples_are_refused_with_the_number_needed(coverage, needed):
    p, y = draw(needed, seed=0)
    assert ConformalSets(coverage).fit(p, y).thresholds is not None
    with pytest.raises(ValueError, match=f"at least {needed} .*{needed - 1}"):
        ConformalSets(coverage).fit(p[1:], y[1:])


def test_classes_with_too_few_samples_are_named():
    p, _ = draw(100, seed=0)
    y = np.arange(100) % 3
    y[:4] = 3
    with pytest.raises(ValueError, match=r"9 .* each class .*\{3: 4\}"):
        ConformalSets(class_conditional=True).fit(p, y)


@pytest.mark.parametrize(
    "config, text",
    [
        ({"coverage": 1.0}, "coverage=1.0"),
        ({"coverage": np.nan}, "coverage=nan"),
        ({"method": "raps"}, "method='raps'"),
        ({"class_conditional": 1}, "class_conditional=1"),
        ({"randomized": True, "method": "threshold"}, "method='threshold'"),
        ({"randomized": "yes"}, "randomized='yes'"),
        ({"allow_empty": None}, "allow_empty=None"),
        ({"seed": -1}, "seed=-1"),
        ({"thresholds": [0.5]}, r"thresholds=\[0.5\]"),
        ({"thresholds": [0.5, np.nan]}, "thresholds=.*nan"),
    ],
)
def test_bad_arguments_are_named(config, text):
    with pytest.raises(ValueError, match=text):
        ConformalSets(**config)


def test_bad_predictions_are_refused():
    p, y = draw(50, seed=0)
    sets = ConformalSets()
    with pytest.raises(ValueError, match="after `fit`"):
        sets.predict(p)
    bad = p.copy()
    bad[[1, 7], 2] = np.nan
    with pytest.raises(ValueError, match=r"2 of 50 rows .*\[1, 7\]"):
        sets.fit(bad, y)
    sets.fit(p, y)
    with pytest.raises(ValueError, match=r"2 of 50 rows .*\[1, 7\]"):
        sets.predict(bad)
    with pytest.raises(ValueError, match="4 classes, as in `fit`"):
        sets.predict(p[:, :3] / p[:, :3].sum(axis=1, keepdims=True))
    with pytest.raises(ValueError, match="not logits"):
        sets.fit(np.log(p), y)
    with pytest.raises(ValueError, match=r"in \[0, 4\)"):
        sets.fit(p, y + 1)
    with pytest.raises(ValueError, match="zeros and a single one"):
        sets.fit(p, p)
