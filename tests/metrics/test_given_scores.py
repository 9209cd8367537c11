"""Metrics and losses notice what they were given.

Values at hand are refused with a sentence. In a compiled step the result of a
metric is NaN.
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel import losses
from keras_mmrel import metrics

RNG = np.random.default_rng(0)
LOGITS = (2 * RNG.normal(size=(40, 3))).astype("float32")
P = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
Y = np.where(RNG.random(40) < 0.8, LOGITS.argmax(1), RNG.integers(0, 3, 40))
ROWS = np.eye(3, dtype="float32")[Y]

METRICS = {
    "brier": metrics.BrierScore,
    "ece": metrics.ExpectedCalibrationError,
    "class-wise ece": lambda **k: metrics.ExpectedCalibrationError(
        kind="class_wise", num_classes=3, **k
    ),
    "aurc": metrics.AURC,
    "excess aurc": metrics.ExcessAURC,
}
LOSSES = {
    "crossentropy": losses.LabelCrossentropy,
    "evidential": losses.EvidentialCrossentropy,
}


def update(metric, y, scores, weight=None):
    metric.update_state(y, scores, sample_weight=weight)
    return float(metric.result())


def no_loss(y_true, y_pred):
    return 0.0 * y_pred[:, 0]


def in_a_compiled_step(metric, y, scores, weight=None):
    """The metric of a Keras model that returns what it is given.

    PyTorch has the values at hand in every step.
    """
    inputs = keras.Input((3,))
    # What the model returns must not be known to be the input.
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    model.compile(loss=no_loss, weighted_metrics=[metric])
    logs = model.evaluate(
        scores, y, sample_weight=weight, batch_size=20, verbose=0,
        return_dict=True,
    )  # fmt: skip
    return logs[metric.name]


BAD = {
    "logits for probabilities": (False, Y, LOGITS, "must hold probabilities"),
    "probabilities for logits": (True, Y, P, "must hold logits"),
    "neither": (False, Y, 2 * P, "must hold probabilities that sum to 1"),
    "large label": (True, Y + 1, LOGITS, r"class numbers in \[0, 3\)"),
    "negative label": (True, Y - 1, LOGITS, "of values from -1 to 1"),
    "half a label": (
        True,
        Y + 0.5,
        LOGITS,
        "labels of .* that do not, of values from 0.5",
    ),
    "rows of twos": (True, 2 * ROWS, LOGITS, "one-hot rows that sum to 1"),
}


@pytest.mark.parametrize("as_tensors", [False, True])
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("case", BAD)
def test_values_at_hand_are_refused(name, case, as_tensors):
    from_logits, y, scores, text = BAD[case]
    if as_tensors:
        y, scores = ops.convert_to_tensor(y), ops.convert_to_tensor(scores)
    with pytest.raises(ValueError, match=text):
        update(METRICS[name](from_logits=from_logits), y, scores)


@pytest.mark.parametrize("name", ["brier", "class-wise ece", "aurc"])
@pytest.mark.parametrize("case", BAD)
def test_in_a_compiled_step_they_make_the_metric_nan(name, case):
    from_logits, y, scores, text = BAD[case]
    metric = METRICS[name](from_logits=from_logits)
    if keras.config.backend() == "torch":
        with pytest.raises(ValueError, match=text):
            in_a_compiled_step(metric, y, scores)
    else:
        assert np.isnan(in_a_compiled_step(metric, y, scores))


@pytest.mark.parametrize("name", ["brier", "ece", "aurc"])
@pytest.mark.parametrize("bad", [np.nan, -1.0])
def test_weights_that_are_none_are_refused_or_make_the_metric_nan(name, bad):
    weight = np.ones(40, "float32")
    weight[3] = bad
    metric = METRICS[name]()
    with pytest.raises(ValueError, match="`sample_weight` must be finite and"):
        update(metric, Y, LOGITS, weight)
    metric = METRICS[name]()
    if keras.config.backend() == "torch":
        with pytest.raises(ValueError, match="`sample_weight` must be finite"):
            in_a_compiled_step(metric, Y, LOGITS, weight)
    else:
        assert np.isnan(in_a_compiled_step(metric, Y, LOGITS, weight))


class Detected(keras.Model):
    """Hands on scores of positives."""

    def call(self, inputs):
        return inputs[:, 0] * 1.0


@pytest.mark.parametrize("case", ["label", "score"])
def test_a_detection_in_a_compiled_step_is_nan(case):
    if keras.config.backend() == "torch":
        pytest.skip("PyTorch has the values at hand in every step")
    y = (np.arange(40) % 2).astype("int32")
    scores = P[:, :1].copy()
    if case == "label":
        y[3] = 2
    else:
        scores[3] = 1.5
    model = Detected()
    model.compile(
        loss=lambda y, p: 0.0 * p, weighted_metrics=[metrics.DetectionAUROC()]
    )
    logs = model.evaluate(scores, y, verbose=0, return_dict=True)
    assert np.isnan(logs["detection_auroc"])


@pytest.mark.parametrize("name", METRICS)
def test_what_fits_is_the_same_in_all_ways(name):
    expected = update(METRICS[name](), Y, LOGITS)
    assert 0 < expected < 1
    make = METRICS[name]
    ways = {
        "probabilities": update(make(from_logits=False), Y, P),
        "rows": update(make(), ROWS, LOGITS),
        "column": update(make(), Y[:, None], LOGITS),
        "floats": update(make(), Y.astype("float32"), LOGITS),
        "lists": update(make(), Y.tolist(), LOGITS.tolist()),
        "uint64": update(make(), Y.astype("uint64"), LOGITS),
        "big endian": update(make(), Y.astype(">i4"), LOGITS.astype(">f4")),
        "long double": update(make(), Y, LOGITS.astype(np.longdouble)),
        "compiled": in_a_compiled_step(make(), Y, LOGITS),
        "compiled probabilities": in_a_compiled_step(
            make(from_logits=False), Y, P
        ),
    }
    for way, value in ways.items():
        np.testing.assert_allclose(value, expected, atol=1e-4, err_msg=way)
    half = update(make(from_logits=False), Y, ops.cast(P, "bfloat16"))
    np.testing.assert_allclose(half, expected, atol=0.02)


@pytest.mark.parametrize("name", METRICS)
def test_what_has_weight_0_may_hold_anything(name):
    weight = np.r_[np.ones(30), np.zeros(10)].astype("float32")
    y, scores = Y.copy(), LOGITS.copy()
    y[30:], scores[30:] = 99, P[30:]
    expected = update(METRICS[name](), Y[:30], LOGITS[:30])
    np.testing.assert_allclose(
        update(METRICS[name](), y, scores, weight), expected, atol=1e-6
    )


def test_one_row_that_sums_to_1_may_be_one_of_logits():
    row = np.array([[0.25, 0.25, 0.5]], "float32")
    metric = metrics.BrierScore()
    metric.update_state(np.array([2]), row)
    p = np.exp(row) / np.exp(row).sum()
    expected = np.square(p - [[0, 0, 1]]).sum()
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-5)


@pytest.mark.parametrize("name", [*METRICS, "accuracy"])
@pytest.mark.parametrize(
    "y, scores, text",
    [
        (Y, LOGITS[:, 0], r"shape \(batch, classes\).*\(40,\)"),
        (Y, LOGITS[:, :1], r"two or more classes.*\(40, 1\)"),
        (Y, LOGITS[:, None], r"shape \(batch, classes\).*\(40, 1, 3\)"),
        (Y[:30], LOGITS, r"one label a sample.*\(30,\).*\(40, 3\)"),
        (np.array(1), LOGITS, "one label a sample"),
        (np.eye(4)[Y], LOGITS, r"rows of shape \(batch, 3\).*\(40, 4\)"),
        (ROWS[:, :, None], LOGITS, r"\(40, 3, 1\)"),
        (Y.astype(str), LOGITS, "`y_true` must hold numbers.*<U"),
        (Y, LOGITS.astype(str), "`y_pred` must hold numbers"),
        (Y, LOGITS.astype(complex), "`y_pred` must hold numbers.*complex"),
        (Y, {"logits": LOGITS}, "`y_pred` must hold numbers.*a dict"),
        (None, LOGITS, "`y_true` must hold numbers.*a NoneType"),
        (Y, np.ma.masked_greater(LOGITS, 1), "no masked entries"),
        (Y + 1, LOGITS, r"class numbers in \[0, 3\)"),
    ],
)
def test_shapes_and_kinds_are_refused_in_a_sentence(name, y, scores, text):
    metric = {**METRICS, "accuracy": metrics.LabelAccuracy}[name]()
    with pytest.raises(ValueError, match=text):
        metric.update_state(y, scores)


def test_a_nan_prediction_is_no_right_one():
    scores = LOGITS.copy()
    scores[3] = np.nan
    assert np.isnan(update(metrics.LabelAccuracy(), Y, scores))
    weight = np.arange(40) != 3
    value = update(metrics.LabelAccuracy(), Y, scores, weight)
    assert value == pytest.approx((LOGITS.argmax(1) == Y)[weight].mean())


@pytest.mark.slow_on("jax", "tensorflow")
def test_modality_imbalance_notices_too():
    both = np.stack([LOGITS, 0.1 * LOGITS], axis=1)
    other = np.stack([P, P], axis=1)
    metric = metrics.ModalityImbalance(2, "probability")
    for y, scores, text in (
        (Y, other, "must hold logits"),
        (Y + 1, both, "class numbers"),
        (Y, both[:, :1], r"\(batch, 2, classes\)"),
        (Y, {"modality_logits": both}, "a dict"),
    ):
        with pytest.raises(ValueError, match=text):
            metric.update_state(y, scores)
    told = metrics.ModalityImbalance(2, "probability", from_logits=False)
    with pytest.raises(ValueError, match="must hold probabilities"):
        told.update_state(Y, both)
    assert update(told, Y, other) == 0
    assert update(metric, Y, both) > 0.1


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "y, scores, weight, text",
    [
        (Y, P, None, "must hold logits"),
        (Y + 1, LOGITS, None, r"class numbers in \[0, 3\)"),
        (Y - 1, LOGITS, None, "from -1 to 1"),
        (2 * ROWS, LOGITS, None, "sum to 1"),
        (Y[:30], LOGITS, None, "one label a sample"),
        (Y, LOGITS[:, 0], None, "two or more classes"),
        (Y.astype(str), LOGITS, None, "must hold numbers"),
        (Y, {"logits": LOGITS}, None, "must hold numbers"),
        (Y, LOGITS, np.ones(7), r"`sample_weight` .*\(40,\).*\(7,\)"),
        (Y, LOGITS, -np.ones(40), "finite and not negative.*-1"),
        (Y, LOGITS, np.full(40, np.nan), "finite and not negative.*nan"),
    ],
)
def test_losses_refuse_what_is_at_hand(name, y, scores, weight, text):
    loss = LOSSES[name]()
    with pytest.raises(ValueError, match=text):
        loss(y, scores, sample_weight=weight)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_what_fits_are_the_same_in_all_ways(name):
    loss = LOSSES[name]()
    expected = float(loss(Y, LOGITS))
    for y in (ROWS, Y[:, None], Y.tolist(), Y.astype("uint64")):
        np.testing.assert_allclose(float(loss(y, LOGITS)), expected, rtol=1e-5)
    weight = np.r_[np.ones(30), np.zeros(10)]
    y = np.r_[Y[:30], np.full(10, 99)]
    kept = float(loss(y, LOGITS, sample_weight=weight))
    alone = float(loss(Y[:30], LOGITS[:30]))
    np.testing.assert_allclose(kept, 0.75 * alone, rtol=1e-5)


@pytest.mark.parametrize(
    "y, scores, weight, text",
    [
        (np.ones(5), np.ones(4), None, r"one shape.*\(5,\).*\(4,\)"),
        (np.ones(5), np.ones((5, 2)), None, "one shape"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), None, "one shape"),
        (np.array(1.0), np.array(1.0), None, "one shape"),
        (np.full(5, "a"), np.ones(5), None, "must hold numbers"),
        (np.ones(5), np.ones(5), np.ones(3), r"\(5,\).*\(3,\)"),
        (np.ones(5), np.ones(5), -np.ones(5), "not negative"),
    ],
)
def test_the_rank_loss_refuses_what_does_not_fit(y, scores, weight, text):
    with pytest.raises(ValueError, match=text):
        losses.RankLoss()(y, scores, sample_weight=weight)
