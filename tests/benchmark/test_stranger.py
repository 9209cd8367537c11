"""Somebody adds a model, data, a corruption, a score and a probe, and more."""

import keras
import numpy as np
import pytest

from keras_mmrel import benchmark
from keras_mmrel.corruptions import Corruption
from keras_mmrel.evaluation import Score
from tests.benchmark.helpers import arrays
from tests.benchmark.helpers import lines

pytestmark = pytest.mark.slow_on("jax", "tensorflow")


class Doubled(keras.Model):
    """A plain Keras model that knows nothing of the library."""

    def __init__(self, modalities, num_classes, units=8):
        super().__init__()
        self.names = list(modalities)
        self.hidden = keras.layers.Dense(units, activation="relu")
        self.head = keras.layers.Dense(num_classes)

    def call(self, inputs):
        joined = keras.ops.concatenate([inputs[n] for n in self.names], axis=1)
        return self.head(self.hidden(joined))


class Dimmed(Corruption):
    """Everything becomes darker, which leaves no range."""

    in_range = True

    def corrupt(self, values, corrupted, present, rng):
        values[corrupted] /= 1.0 + self.severity
        return values


def boldness(predictions):
    return predictions.probabilities.max(axis=1).mean()


def spread(model, x, y, training):
    widths = {name: float(values.std()) for name, values in x.items()}
    return {**widths, "trained_on": len(training[1]), "tested_on": len(y)}


def comparison(**changes):
    x, y = arrays(samples=60, classes=3)
    parts = (
        ({k: v[:40] for k, v in x.items()}, y[:40]),
        ({k: v[40:] for k, v in x.items()}, y[40:]),
    )
    settings = {
        "methods": {
            "mine": lambda modalities, num_classes: Doubled(
                modalities, num_classes
            ),
            "mine, by its class": benchmark.Method(Doubled, {"units": 3}),
            "mine, by its path": {"model": f"{__name__}.Doubled"},
            "LateFusion": {},
        },
        "datasets": {"own": lambda: parts},
        "seeds": 2,
        "training": {"epochs": 2, "batch_size": 10, "learning_rate": 0.02},
        "evaluation": {
            "corruptions": {"dimmed": Dimmed(1.0), "noise": "gaussian_one"},
            "severities": {"dimmed": [1.0, 3.0], "noise": [0.5]},
            "scores": [
                "accuracy",
                "nll",
                Score("boldness", boldness, False, "mean largest probability"),
            ],
            "probes": {"spread": spread},
        },
        **changes,
    }
    return benchmark.Comparison(**settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stranger")
    comparison().run(folder, verbose=0)
    comparison().report(folder)
    return folder


def test_every_row_ran(folder):
    runs = lines(folder, "run")
    assert len({(r["method"], r["seed"]) for r in runs}) == len(runs) == 8
    sizes = {r["method"]: r["parameters"] for r in runs}
    assert sizes["mine"] == 7 * 8 + 8 + 8 * 3 + 3
    assert sizes["mine, by its class"] == 7 * 3 + 3 + 3 * 3 + 3
    assert sizes["mine, by its path"] == sizes["mine"]


def test_the_own_score_and_corruption_stand_in_the_report(folder):
    text = (folder / "report.md").read_text("utf-8")
    inside = text.split("### Corruptions inside")[1].split("###")[0]
    outside = text.split("### Corruptions outside")[1].split("###")[0]
    assert "| dimmed |" in inside and "| noise |" in outside
    assert "boldness ↓" in inside and "mean largest probability" in text
    for record in lines(folder, "run"):
        assert all(1 / 3 < v <= 1 for v in record["scores"]["boldness"])


def test_the_own_probe_stands_in_the_report(folder):
    text = (folder / "report.md").read_text("utf-8")
    probes = text.split("### Probes")[1]
    assert "| spread/a | spread/b | spread/trained on |" in probes
    for record in lines(folder, "run"):
        assert record["probes"]["spread/trained_on"] == 40
        assert record["probes"]["spread/tested_on"] == 20


def test_scores_come_again_from_the_kept_predictions(folder):
    for record in lines(folder, "run"):
        matches = [
            path
            for path in (folder / "predictions").glob("*.npz")
            if _is_of(path, record)
        ]
        assert len(matches) == 1
        with np.load(matches[0]) as kept:
            p, y = kept["probabilities"], kept["labels"]
            assert kept["rows"].tolist() == list(range(40, 60))
            found = record["scores"]
            assert kept["corruption"].tolist() == found["corruption"]
            assert kept["severity"].tolist() == found["severity"]
        accuracy = (p.argmax(axis=2) == y).mean(axis=1)
        np.testing.assert_allclose(accuracy, found["accuracy"], rtol=1e-4)
        nll = -np.log(p[:, np.arange(20), y]).mean(axis=1)
        np.testing.assert_allclose(nll, found["nll"], rtol=1e-3)


def _is_of(path, record):
    from keras_mmrel.benchmark._job import Job

    return path.stem == Job.of(record).id
