import os
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import SHAPES
from tests.helpers import run_model_checks
from tests.helpers import to_numpy
from tests.helpers import vectors

DATA = Path(os.environ.get("KERAS_MMREL_DATA", "")) / "rosmap"


def small(modalities, num_classes, **kwargs):
    return keras_mmrel.MMDynamics(
        modalities, num_classes, **{"hidden_units": 16, **kwargs}
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(layer, x):
    kernel, bias = (to_numpy(w) for w in layer.weights)
    return x @ kernel + bias


def test_standard_checks(tmp_path):
    model = run_model_checks(small, tmp_path)
    out = model.predict(vectors()[0], verbose=0)
    assert out["gate"].shape == out["predicted_probability"].shape == (48, 3)
    assert ((out["gate"] > 0) & (out["gate"] < 1)).all()
    np.testing.assert_array_equal(
        out["confidence"], np.clip(out["predicted_probability"], 0, 1)
    )


def test_outputs_and_losses_are_those_of_the_paper():
    model = small(SHAPES, 3)
    x, y = vectors()
    mask = np.ones((48, 3), "float32")
    mask[::3, 1] = 0
    weight = np.linspace(0.0, 2.0, 48)
    inputs = {**x, "modality_mask": mask}
    out = model.predict(inputs, batch_size=48, verbose=0)
    fused, gates, errors, own = [], 0, 0, 0
    for m, name in enumerate(SHAPES):
        present = mask[:, m]
        gate = sigmoid(dense(model.gates[m], x[name]))
        h = np.maximum(dense(model.encoders[m], x[name] * gate), 0)
        h = h * present[:, None]
        c = dense(model.confidences[m], h)
        fused.append(c * h)
        logits = dense(model.heads[m], h)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        true = p[np.arange(48), y]
        gates += (weight * present * gate.mean(axis=1)).mean()
        errors += (weight * present * (c[:, 0] - true) ** 2).mean()
        own -= (weight * present * np.log(true)).mean()
        np.testing.assert_allclose(
            out["predicted_probability"][:, m], c[:, 0] * present, atol=1e-5
        )
        np.testing.assert_allclose(
            out["gate"][:, m], gate.mean(axis=1) * present, atol=1e-5
        )
        np.testing.assert_allclose(
            out["modality_logits"][:, m], logits, atol=1e-5
        )
    logits = dense(model.head, np.concatenate(fused, axis=1))
    np.testing.assert_allclose(out["logits"], logits, atol=1e-5)
    model.compile()
    logs = model.evaluate(
        inputs,
        y,
        sample_weight=weight,
        batch_size=48,
        verbose=0,
        return_dict=True,
    )
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    total = -(weight * np.log(p[np.arange(48), y])).mean()
    np.testing.assert_allclose(logs["gate_loss"], gates, rtol=1e-4)
    np.testing.assert_allclose(logs["confidence_loss"], errors, rtol=1e-4)
    np.testing.assert_allclose(logs["modality_loss"], own, rtol=1e-4)
    np.testing.assert_allclose(
        logs["loss"], total + gates + errors + own, rtol=1e-4
    )


def test_weights_of_the_losses_scale_their_terms():
    x, y = vectors()
    names = ("gate_loss", "confidence_loss", "modality_loss")
    one = small(SHAPES, 3)
    other = small(
        SHAPES,
        3,
        gate_loss_weight=0.0,
        confidence_loss_weight=2.0,
        modality_loss_weight=3.0,
    )
    other.set_weights(one.get_weights())
    found = []
    for model in (one, other):
        model.compile()
        logs = model.evaluate(x, y, batch_size=48, verbose=0, return_dict=True)
        found.append(np.array([logs[name] for name in names]))
    np.testing.assert_allclose(found[1], found[0] * [0, 2, 3], rtol=1e-5)


@pytest.mark.slow_on("jax", "tensorflow")
def test_confidence_learns_the_true_class_probability():
    rng = np.random.default_rng(0)
    y = np.arange(900) % 3
    clean = np.eye(3)[y]
    x = {name: clean + 0.1 * rng.normal(size=clean.shape) for name in "ab"}
    # Half of `a` tells nothing.
    hidden = rng.uniform(size=900) < 0.5
    x["a"][hidden] = 1 / 3 + 0.1 * rng.normal(size=(hidden.sum(), 3))
    model = small({"a": (3,), "b": (3,)}, 3, dropout=0.0, hidden_units=32)
    model.compile(keras.optimizers.Adam(1e-2))
    train = {name: value[:600] for name, value in x.items()}
    model.fit(train, y[:600], batch_size=100, epochs=40, verbose=0)
    test = {name: value[600:] for name, value in x.items()}
    out = model.predict(test, verbose=0)
    logits, confidence = out["modality_logits"], out["confidence"]
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    true = p[np.arange(300), :, y[600:]]
    hidden = hidden[600:]
    assert confidence[~hidden, 0].mean() > confidence[hidden, 0].mean() + 0.3
    assert np.corrcoef(confidence[:, 0], true[:, 0])[0, 1] > 0.8
    assert np.abs(confidence - true).mean() < 0.15
    # What it says of a modality moves with that modality alone.
    np.testing.assert_allclose(
        model.predict({**test, "a": test["a"] + 1}, batch_size=48, verbose=0)[
            "confidence"
        ][:, 1],
        confidence[:, 1],
        atol=1e-6,
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_squared_error_trains_confidence_and_head():
    x, y = vectors()
    model = small(SHAPES, 3, modality_loss_weight=0.0, dropout=0.0)
    layers = [*model.confidences, *model.heads]
    before = [to_numpy(layer.kernel) for layer in layers]
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(x, y, batch_size=48, verbose=0)
    for layer, old in zip(layers, before, strict=True):
        assert np.abs(to_numpy(layer.kernel) - old).max() > 1e-5, layer.name


@pytest.mark.slow_on("jax", "tensorflow")
def test_gate_loss_closes_the_gates_of_noise_first():
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    noise = rng.uniform(size=(300, 4))
    useful = (y[:, None] + 0.2 * rng.uniform(size=(300, 4))) / 1.2
    x = {"a": np.concatenate([useful, noise], axis=1)}
    model = small({"a": (8,)}, 2, dropout=0.0)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x, y, batch_size=100, epochs=60, verbose=0)
    gates = to_numpy(model.gates[0](x["a"]))
    assert gates[:, :4].mean() > 2 * gates[:, 4:].mean()
    assert gates[:, 4:].mean() < 0.1


@pytest.mark.slow_on("jax", "tensorflow")
def test_only_vectors_given_by_their_shape_are_gated_at_the_input():
    class Tokens(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.embed = keras.layers.Embedding(10, 3)

        def call(self, inputs):
            return ops.mean(self.embed(inputs), axis=1)

    model = small({"a": (6,), "image": (8, 8, 1), "text": Tokens()}, 2)
    rng = np.random.default_rng(0)
    x = {
        "a": rng.uniform(size=(4, 6)),
        "image": rng.uniform(size=(4, 8, 8, 1)),
        "text": rng.integers(0, 10, size=(4, 5)),
    }
    assert np.isfinite(to_numpy(model(x)["logits"])).all()
    assert model.gates[0].dense.units == 6
    # The image's features, and the embedding's.
    assert model.gates[1].dense.units == model.confidences[1].kernel.shape[0]
    assert model.gates[2].dense.units == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_units", 0),
        ("hidden_units", 1.5),
        ("dropout", 1.0),
        ("gate_loss_weight", -1),
        ("confidence_loss_weight", "1"),
        ("modality_loss_weight", float("nan")),
    ],
)
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        keras_mmrel.MMDynamics(SHAPES, 3, **{name: value})


@pytest.mark.slow
@pytest.mark.skipif(
    "KERAS_MMREL_DATA" not in os.environ or not DATA.is_dir(),
    reason="KERAS_MMREL_DATA names no folder with `rosmap`.",
)
def test_rosmap_reaches_the_figures_of_the_authors_code():
    # Their code at its final epoch, 5 seeds: ACC 81.3 +- 1.1, AUC 89.9. Here
    # a seed is off by 2.6 and 0.6; on unscaled features it gets 76 and 84.
    metrics = pytest.importorskip("sklearn.metrics")
    (x_train, y_train), (x_test, y_test) = keras_mmrel.datasets.load_rosmap(
        DATA
    )
    for name, values in x_train.items():
        # Every feature to [0, 1] on the training data, as they do.
        low, high = values.min(axis=0), values.max(axis=0)
        x_train[name] = (values - low) / (high - low)
        x_test[name] = (x_test[name] - low) / (high - low)
    accuracy, auc = [], []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        model = keras_mmrel.MMDynamics(
            dict.fromkeys(x_train, (200,)), 2, hidden_units=1000
        )
        # PyTorch's weight decay of 1e-4 is part of the gradient.
        for variable in model.trainable_variables:
            variable.regularizer = keras.regularizers.L2(5e-5)
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [500], [1e-4, 2e-5]
        )
        model.compile(keras.optimizers.Adam(schedule))
        model.fit(x_train, y_train, batch_size=245, epochs=1000, verbose=0)
        p = model.predict(x_test, batch_size=106, verbose=0)["probabilities"]
        accuracy.append(100 * (p.argmax(axis=1) == y_test).mean())
        auc.append(100 * metrics.roc_auc_score(y_test, p[:, 1]))
    assert abs(np.mean(accuracy) - 81.3) <= 4.0
    assert abs(np.mean(auc) - 89.9) <= 2.0
