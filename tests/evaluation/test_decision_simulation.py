"""Do a decision's promises hold? Calibrated again and again, on real data.

What is left of the data after a training is split at random into calibration
and new samples, so that both are exchangeable: what is promised on average
holds up to the error of the number of splits. `-s` prints all figures.
"""

import os
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.evaluation import NOISE_PROTOCOLS
from keras_mmrel.evaluation import Decision

pytestmark = [pytest.mark.slow, pytest.mark.one_backend]

RISK, COVERAGE, ALARM, DELTA, LEVEL = 0.1, 0.9, 0.05, 0.1, 0.05


def take(x, rows):
    return {name: values[rows] for name, values in x.items()}


def train(x, y, epochs):
    keras.utils.set_random_seed(0)
    shapes = {name: values.shape[1:] for name, values in x.items()}
    model = keras_mmrel.LateFusion(
        shapes,
        int(y.max()) + 1,
        average="probabilities",
        quality=keras_mmrel.layers.InputQuality(),
    )
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


@pytest.fixture(scope="module")
def digit_data():
    (x, y), (x_more, y_more) = keras_mmrel.datasets.load_multiview_digits("all")
    x = {name: np.concatenate([v, x_more[name]]) for name, v in x.items()}
    y = np.concatenate([y, y_more])
    rows = np.random.default_rng(0).permutation(len(y))
    model = train(take(x, rows[:500]), y[rows[:500]], epochs=12)
    return model, take(x, rows[500:]), y[rows[500:]]


@pytest.fixture(scope="module")
def rosmap_data():
    folder = Path(os.environ.get("KERAS_MMREL_DATA", "")) / "rosmap"
    if not (folder / "1_tr.csv").is_file():
        pytest.skip("KERAS_MMREL_DATA names no folder with ROSMAP.")
    (x, y), (x_more, y_more) = keras_mmrel.datasets.load_rosmap(path=folder)
    x = {name: np.concatenate([v, x_more[name]]) for name, v in x.items()}
    y = np.concatenate([y, y_more])
    rows = np.random.default_rng(0).permutation(len(y))
    model = train(take(x, rows[:120]), y[rows[:120]], epochs=30)
    return model, take(x, rows[120:]), y[rows[120:]]


def simulate(model, x, y, calibration, splits, stream=100, groups=None):
    """Rates of each split: arrays by name."""
    found = []
    for seed in range(splits):
        rows = np.random.default_rng(seed).permutation(len(y))
        known, rest = rows[:calibration], rows[calibration:]
        told = None if groups is None else groups[known]
        with warnings.catch_warnings():
            # That a rule accepts nothing is counted.
            warnings.simplefilter("ignore")
            decision = Decision.fit(
                model, take(x, known), y[known], RISK, COVERAGE,
                false_alarm=ALARM, delta=DELTA, seed=seed, groups=told,
            )  # fmt: skip
            changed = decision.drift(
                take(x, rest[:stream]), LEVEL, permutations=199, seed=seed
            ).changed
        told = {} if groups is None else {"group": groups}
        out = decision.predict({**x, **told}, batch_size=2048, verbose=0)
        accepted = out["accept"]
        held = out["prediction_set"][np.arange(len(y)), y]
        row = {
            "coverage": held[rest].mean(),
            "accepted": accepted[rest].mean(),
            # Of all that there are: the population.
            "risk": (out["label"] != y)[accepted].mean()
            if accepted.any()
            else 0.0,
            "drift": float(bool(changed)),
        }
        for kind in ("suspect", "out_of_range"):
            rates = out[kind][rest].mean(axis=0)
            names = [f"{kind} {name}" for name in x]
            row |= dict(zip(names, rates, strict=True))
        for group in [] if groups is None else np.unique(groups):
            members = rest[groups[rest] == group]
            row[f"coverage of {group}"] = held[members].mean()
        found.append(row)
    return {name: np.array([row[name] for row in found]) for name in found[0]}


def error(values):
    """Three standard errors, at least those of one split that differs."""
    return 3.0 * max(values.std(), 1 / len(values)) / np.sqrt(len(values))


def check(title, rates):
    print(f"\n{title}")
    for name, values in rates.items():
        print(f"  {name}: {values.mean():.4f} +- {error(values) / 3:.4f}")
    for name, values in rates.items():
        if name.startswith("coverage"):
            assert values.mean() >= COVERAGE - error(values), name
        if name.startswith(("suspect", "out_of_range")):
            assert values.mean() <= ALARM + error(values), name
    assert rates["drift"].mean() <= LEVEL + error(rates["drift"])
    violated = rates["risk"] > RISK
    print(f"  risk above {RISK:g}: {violated.mean():.4f} of the splits")
    assert violated.mean() <= DELTA + error(violated)


def test_promises_hold_on_clean_digits(digit_data):
    check("digits, clean", simulate(*digit_data, calibration=400, splits=60))


def test_promises_hold_under_noise_that_calibration_had(digit_data):
    model, x, y = digit_data
    x = GaussianNoise(2.0, "independent")(x, seed=0)
    rates = simulate(model, x, y, calibration=400, splits=60)
    assert 0.05 < rates["accepted"].mean() < 0.98
    check("digits, noise as in use", rates)


def test_promises_hold_within_groups(digit_data):
    model, x, y = digit_data
    groups = np.random.default_rng(0).integers(0, 2, len(y))
    noisy = GaussianNoise(2.0, "independent")(x, seed=0)
    # One hospital has bad sensors, the other good ones.
    x = {
        name: np.where(groups[:, None] == 1, noisy[name], x[name]) for name in x
    }
    rates = simulate(model, x, y, 500, splits=60, groups=groups)
    check("digits, two groups", rates)
    # All together, the bad one is not covered.
    plain = simulate(model, x, y, 500, splits=5)
    print(f"  accepted without groups: {plain['accepted'].mean():.4f}")


def test_promises_hold_on_rosmap(rosmap_data):
    check("ROSMAP", simulate(*rosmap_data, 110, splits=60, stream=60))


def test_a_shift_makes_promises_void_and_drift_finds_it(digit_data):
    model, x, y = digit_data
    decision = Decision.fit(
        model, take(x, slice(0, 500)), y[:500], RISK, 0.95, delta=DELTA
    )
    x, y = take(x, slice(500, None)), y[500:]
    print("\ndigits, calibrated on clean samples")
    covered = {}
    for name, severity in (
        ("gaussian_one", 0.5), ("gaussian_one", 5.0), ("gaussian_all", 1.0),
        ("feature_noise", 1.0), ("unaligned", 0.5),
        ("missing_unannounced", 1.0), ("missing", 1.0),
    ):  # fmt: skip
        corruption = NOISE_PROTOCOLS[name].at(severity)
        bad = corruption(x, seed=0, labels=y)
        rates = decision.evaluate(bad, y)
        found, named = [], []
        for seed in range(20):
            rows = np.random.default_rng(seed).permutation(len(y))[:150]
            changed = decision.drift(
                take(bad, rows), LEVEL, permutations=199, seed=seed
            ).changed
            found.append(bool(changed))
            named.append(len(changed))
        covered[name, severity] = rates["coverage"]
        print(
            f"  {name} {severity:g}: coverage {rates['coverage']:.3f}, "
            f"accepted {rates['accepted']:.3f}, risk {rates['risk']:.3f}, "
            f"suspect {np.mean(list(rates['suspect'].values())):.3f}, "
            f"drift in {np.mean(found):.2f} of streams of 150, "
            f"{np.mean(named):.1f} modalities named"
        )
        if name in ("gaussian_one", "gaussian_all", "feature_noise"):
            assert np.mean(found) > 0.9, name
    assert covered["gaussian_all", 1.0] < 0.9


def test_drift_names_the_modality_that_is_noisy(digit_data):
    model, x, y = digit_data
    decision = Decision.fit(model, take(x, slice(0, 500)), y[:500], RISK)
    x = take(x, slice(500, 800))
    noisy = GaussianNoise(1.0, "all")(x, seed=0)
    for name in x:
        changed = decision.drift({**x, name: noisy[name]}).changed
        print(f"  noise on {name}: {changed}")
        assert name in changed
