import keras
import numpy as np
import pytest

from keras_mmrel import LateFusion
from keras_mmrel.callbacks import ModalityMonitor
from keras_mmrel.metrics import ModalityImbalance
from tests.helpers import SHAPES
from tests.helpers import json_round_trip
from tests.helpers import vectors
from tests.metrics.streams import assert_broken_samples_make_nan
from tests.metrics.streams import assert_streams_and_merges
from tests.metrics.streams import assert_weight_is_repetition
from tests.metrics.streams import value

SCORES = ["accuracy", "probability"]


def predictions(samples=60, classes=4, seed=0):
    """Labels and logits of three modalities, the last one the weakest."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, samples)
    skill = np.array([2.0, 1.0, 0.3])[None, :, None]
    logits = rng.normal(size=(samples, 3, classes))
    logits = logits + skill * np.eye(classes)[y][:, None]
    p = np.exp(logits)
    return y, logits.astype("float32"), p / p.sum(-1, keepdims=True)


def sample_scores(y, p, score):
    """Score of each sample and modality."""
    if score == "accuracy":
        return (p.argmax(-1) == y[:, None]).astype("float64")
    return np.take_along_axis(p, y[:, None, None], -1)[..., 0]


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("score", SCORES)
def test_it_is_one_minus_the_weakest_over_the_strongest(score):
    y, logits, p = predictions()
    means = sample_scores(y, p, score).mean(axis=0)
    expected = 1 - means.min() / means.max()
    assert expected > 0.2
    metric = ModalityImbalance(3, score)
    assert value(metric, y, logits) == pytest.approx(expected, abs=1e-6)
    assert value(metric, np.eye(4)[y], logits) == (
        pytest.approx(expected, abs=1e-6)
    )
    metric = ModalityImbalance(3, score, from_logits=False)
    assert value(metric, y, p) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("score", SCORES)
def test_a_modality_is_scored_on_the_samples_that_have_it(score):
    y, logits, p = predictions()
    mask = np.random.default_rng(1).integers(0, 2, (len(y), 3))
    means = (sample_scores(y, p, score) * mask).sum(0) / mask.sum(0)
    expected = 1 - means.min() / means.max()
    logits[mask == 0] = np.nan
    metric = ModalityImbalance(3, score)
    assert value(metric, y, logits, mask) == pytest.approx(expected, abs=1e-6)
    mask[:, 1] = 0
    expected = 1 - means[[0, 2]].min() / means[[0, 2]].max()
    assert value(metric, y, logits, mask) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("score", SCORES)
def test_streams_weights_and_broken_samples(score):
    y, logits, _ = predictions()
    metric = ModalityImbalance(3, score)
    weight = np.linspace(0.1, 3.0, len(y)) ** 2
    assert_streams_and_merges(metric, y, logits, weight)
    assert_weight_is_repetition(metric, y, logits)
    assert_broken_samples_make_nan(metric, y, logits)


@pytest.mark.slow_on("jax", "tensorflow")
def test_equal_modalities_are_balanced_and_a_useless_one_is_not():
    y = np.array([0, 1, 2])
    right = np.eye(3)[y]
    wrong = np.eye(3)[(y + 1) % 3]
    metric = ModalityImbalance(2)
    assert value(metric, y, np.stack([right, right], 1)) == 0
    assert value(metric, y, np.stack([right, wrong], 1)) == 1
    assert value(metric, y[:1], np.stack([right, wrong], 1)[:1]) == 1


def test_nothing_to_compare_is_not_balance():
    y = np.array([0, 1, 2])
    right = np.eye(3)[y]
    wrong = np.eye(3)[(y + 1) % 3]
    metric = ModalityImbalance(2)
    assert np.isnan(float(metric.result()))
    assert np.isnan(value(metric, y, np.stack([wrong, wrong], 1)))
    mask = np.array([[1, 0]] * 3)
    assert np.isnan(value(metric, y, np.stack([right, wrong], 1), mask))


@pytest.mark.slow_on("jax", "tensorflow")
def test_it_says_what_the_monitor_says_of_a_model():
    x, y = vectors()
    model = LateFusion(SHAPES, 3)
    model.compile()
    monitor = ModalityMonitor(x, y, contributions=False)
    model.fit(x, y, batch_size=48, verbose=0, callbacks=[monitor])
    ratio = monitor.history["val_modality_imbalance"][-1]
    logits = model.predict(x, batch_size=48, verbose=0)["modality_logits"]
    found = value(ModalityImbalance(3), y, logits)
    assert found == pytest.approx(1 - 1 / ratio, abs=1e-5)
    assert found > 0


def test_it_is_a_metric_of_a_model_that_returns_the_logits():
    x, y = vectors(shapes={"a": (6,), "b": (4,)})
    inputs = {k: keras.Input(v.shape[1:], name=k) for k, v in x.items()}
    logits = [keras.layers.Dense(3)(v) for v in inputs.values()]
    stack = keras.layers.Concatenate(axis=1)(
        [keras.layers.Reshape((1, 3))(v) for v in logits]
    )
    model = keras.Model(inputs, stack)

    def loss(y_true, y_pred):
        y_true = keras.ops.repeat(y_true[:, None], 2, axis=1)
        return keras.losses.categorical_crossentropy(
            y_true, y_pred, from_logits=True
        )

    metric = ModalityImbalance(2, "probability")
    model.compile("adam", loss, metrics=[metric])
    labels = np.eye(3, dtype="float32")[y]
    logs = model.fit(x, labels, batch_size=48, verbose=0).history
    assert 0 < logs["modality_imbalance"][0] < 1
    found = model.evaluate(
        x, labels, batch_size=16, verbose=0, return_dict=True
    )["modality_imbalance"]
    expected = value(metric, y, model.predict(x, batch_size=48, verbose=0))
    assert found == pytest.approx(expected, abs=1e-5)


def test_config_survives_json():
    metric = ModalityImbalance(3, "probability", from_logits=False, name="own")
    copy = json_round_trip(metric)
    assert copy.get_config() == metric.get_config()
    y, _, p = predictions()
    assert value(copy, y, p) == value(metric, y, p)


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 3), (5, 3, 2, 1)])
def test_other_outputs_than_modality_logits_are_refused(shape):
    with pytest.raises(ValueError, match=f"y_pred.shape=\\({shape[0]}, "):
        ModalityImbalance(3).update_state(np.zeros(5), np.zeros(shape))


@pytest.mark.one_backend
def test_one_modality_has_none_to_lag_behind():
    with pytest.raises(ValueError, match="num_modalities=1"):
        ModalityImbalance(1)
