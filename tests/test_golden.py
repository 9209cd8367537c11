"""Golden values: every backend computes and learns the same numbers.

`python -m tests.test_golden` writes them anew, after a change that is meant.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import SHAPES
from tests.helpers import vectors

PATH = Path(__file__).parent / "golden.json"


def encoders():
    return {
        name: keras.Sequential(
            [keras.Input(shape), keras_mmrel.encoders.MLPEncoder((8,), 0.0)]
        )
        for name, shape in SHAPES.items()
    }


def blocks():
    return {
        name: [
            keras.Sequential(
                [keras.Input(shape), keras.layers.Dense(8, "relu")]
            ),
            keras.layers.Dense(6, "relu"),
        ]
        for name, shape in SHAPES.items()
    }


def cal():
    """Without noise, which is drawn differently on every backend."""
    return keras_mmrel.CAL(
        encoders(),
        3,
        modality_loss_weight=1.0,
        acceleration=1.0,
        bottleneck=0.0,
        sample_bottleneck="typicality",
        measure="combined",
        temperature=0.25,
        warmup=0.0,
        holdout=0.25,
        release=1.0,
        seed=0,
    )


def aim():
    """With every gate closed: none is drawn."""
    model = keras_mmrel.AIM(
        blocks(),
        3,
        rely_weight=1.0,
        target_weight=1.0,
        auxiliary="under_optimised",
        strength=1.0,
        mask_fraction=0.5,
        warmup=0.0,
        modality_loss_weight=0.5,
        seed=0,
    )
    for index, encoder in enumerate(model.encoders):
        encoder.strength.assign([1.0, 1.0])
        for mask, statistics in zip(
            encoder.masks, encoder.statistics, strict=True
        ):
            rng = np.random.default_rng(index)
            statistics.scores.assign(rng.normal(size=mask.shape))
    return model


def micinet():
    """With a judge that has learnt, and the ICI without noise."""
    model = keras_mmrel.MICINet(
        SHAPES,
        3,
        units=8,
        dropout=0.0,
        input_dropout=0.0,
        injection=0.0,
        quality=keras_mmrel.layers.FeatureRepair(),
        seed=0,
    )
    model.quality.adapt(vectors(samples=60)[0])
    removal = model.fusion.ici_removal
    infer = removal.call
    removal.call = lambda z, mean, variance, training=None: infer(
        z, mean, variance
    )
    return model


def passes():
    """What is dropped at inference is the same everywhere, in training not."""
    model = keras_mmrel.MCDropout(encoders(), 3, passes=5, seed=0)
    for drops in model.drops:
        drops.dropout.rate = 0.0
    return model


class Still(keras_mmrel.UDML):
    """It draws nothing, which each backend would do in its own way."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for network in self.level_networks:
            network.dropout.rate = 0.0

    def _normal(self, shape):
        return ops.zeros(shape)


MODELS = {
    "ConcatFusion": lambda: keras_mmrel.ConcatFusion(encoders(), 3),
    "LateFusion": lambda: keras_mmrel.LateFusion(encoders(), 3),
    "QADMNet": lambda: keras_mmrel.QADMNet(
        SHAPES, 3, hidden_dim=8, embedding_dim=8, dropout=0.0
    ),
    "QADMNet, static": lambda: keras_mmrel.QADMNet(
        SHAPES,
        3,
        hidden_dim=8,
        embedding_dim=8,
        dropout=0.0,
        dynamic_parameters=False,
        dynamic_depth=False,
        quality=None,
    ),
    "QADMNet, encoders": lambda: keras_mmrel.QADMNet(
        encoders(), 3, hidden_dim=8, embedding_dim=8, dropout=0.0
    ),
    "CAL": cal,
    "AIM": aim,
    "MICINet": micinet,
    "MMCosine": lambda: keras_mmrel.MMCosine(encoders(), 3),
    "MMDynamics": lambda: keras_mmrel.MMDynamics(
        SHAPES, 3, hidden_units=8, dropout=0.0
    ),
    "ReliableFusion": lambda: keras_mmrel.ReliableFusion(encoders(), 3),
    "TMC": lambda: keras_mmrel.TMC(encoders(), 3, annealing=1.0),
    "ETMC": lambda: keras_mmrel.ETMC(encoders(), 3, annealing=1.0),
    "RCML": lambda: keras_mmrel.RCML(encoders(), 3, annealing=1.0),
    "DeepEnsemble": lambda: keras_mmrel.DeepEnsemble(encoders(), 3, members=3),
    "MCDropout": passes,
    "UDML": lambda: Still(encoders(), 3, noise_from=1.0, weights_from=0.5),
    "QMF": lambda: keras_mmrel.QMF(encoders(), 3, rank_weight=1.0),
    "PDF": lambda: keras_mmrel.PDF(encoders(), 3, confidence_units=8),
}


def compute(name):
    """Train a few steps from fixed weights and return outputs and losses."""
    model = MODELS[name]()
    rng = np.random.default_rng(0)
    # Powers are ten times what their weights say: large ones saturate.
    scale = 0.1 if name == "MICINet" else 0.5
    for variable in model.trainable_variables:
        variable.assign(scale * rng.normal(size=variable.shape))
    model.compile(keras.optimizers.SGD(0.02))
    x, y = vectors(samples=24)
    logs = model.fit(
        x, y, batch_size=12, epochs=2, shuffle=False, verbose=0
    ).history
    noisy = {name: value[:6] * 1.5 for name, value in x.items()}
    outputs = model.predict(noisy, verbose=0)
    return {
        **{k: np.asarray(v, "float64").tolist() for k, v in outputs.items()},
        "losses": {k: [float(v) for v in logs[k]] for k in sorted(logs)},
    }


def assert_same(actual, expected, path):
    if isinstance(expected, dict):
        assert set(actual) == set(expected), path
        for key in expected:
            assert_same(actual[key], expected[key], f"{path}/{key}")
    else:
        assert np.isfinite(actual).all(), path
        np.testing.assert_allclose(
            actual, expected, atol=1e-5, rtol=3e-5, err_msg=path
        )


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_losses_equal_the_golden_values(name):
    expected = json.loads(PATH.read_text())[name]
    found = compute(name)
    if keras.config.backend() == "tensorflow" and name == "QADMNet":
        # One training in 50 sums some gradients in another order there, and
        # ends 2e-4 away: known, not mended. What is wrong is so twice.
        try:
            assert_same(found, expected, name)
        except AssertionError:
            found = compute(name)
    assert_same(found, expected, name)


if __name__ == "__main__":
    golden = {name: compute(name) for name in MODELS}
    PATH.write_text(json.dumps(golden, indent=None) + "\n")
