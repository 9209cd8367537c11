"""Losses and metrics get the scores and the labels that they take."""

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import keras_mmrel
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import vectors

X, Y = vectors()
ROWS = np.eye(3, dtype="float32")[Y]
WEIGHTS = np.linspace(0.0, 2.0, 48).astype("float32")


def model_with(**arguments):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile(**arguments)
    return model


def evaluated(model, labels=Y, **arguments):
    return model.evaluate(
        X, labels, batch_size=24, verbose=0, return_dict=True, **arguments
    )


def metrics_of_each_kind():
    """Every metric says how it is computed on what it takes."""
    return {
        "brier": keras_mmrel.metrics.BrierScore(False, name="brier"),
        "brier_of_logits": keras_mmrel.metrics.BrierScore(
            name="brier_of_logits"
        ),
        "ece": keras_mmrel.metrics.ExpectedCalibrationError(
            from_logits=False, name="ece"
        ),
        "auc": keras.metrics.AUC(num_thresholds=2000, name="auc"),
        "precision": keras.metrics.Precision(top_k=1, name="precision"),
        "f1": keras.metrics.F1Score(average="macro", name="f1"),
        "binary": keras.metrics.BinaryAccuracy(name="binary"),
        "nll": keras.metrics.SparseCategoricalCrossentropy(name="nll"),
        "nll_rows": keras.metrics.CategoricalCrossentropy(name="nll_rows"),
        "nll_logits": keras.metrics.CategoricalCrossentropy(
            from_logits=True, name="nll_logits"
        ),
        "mse": "mse",
        "top": keras.metrics.TopKCategoricalAccuracy(2, name="top"),
        "top_sparse": keras.metrics.SparseTopKCategoricalAccuracy(
            2, name="top_sparse"
        ),
        "accuracy": "accuracy",
        "categorical_accuracy": keras.metrics.categorical_accuracy,
    }


def expected(p, y, weights=None):
    rows = np.eye(3)[y]
    right = p.argmax(1) == y
    mean = lambda values: np.average(values, weights=weights)  # noqa: E731
    nll = mean(-np.log(p[np.arange(48), y]))
    brier = mean(np.square(p - rows).sum(1))
    best = np.argsort(p)[:, 1:]
    top = mean((best == y[:, None]).any(1))
    return {
        "brier": brier,
        "brier_of_logits": brier,
        "auc": roc_auc_score(
            rows.ravel(),
            p.ravel(),
            sample_weight=None if weights is None else np.repeat(weights, 3),
        ),
        "precision": mean(right),
        "binary": mean(((p > 0.5) == rows).mean(1)),
        "nll": nll,
        "nll_rows": nll,
        "nll_logits": nll,
        "mse": brier / 3,
        "top": top,
        "top_sparse": top,
        "accuracy": mean(right),
        "categorical_accuracy": mean(right),
    }


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("labels", [Y, ROWS], ids=["numbers", "rows"])
def test_every_metric_is_computed_on_what_it_takes(labels):
    metrics = metrics_of_each_kind()
    model = model_with(metrics=list(metrics.values()))
    model.fit(X, labels, batch_size=24, epochs=2, verbose=0)
    result = evaluated(model, labels)
    p = model.predict(X, verbose=0)["probabilities"]
    for name, value in expected(p, Y).items():
        np.testing.assert_allclose(
            result[name], value, atol=2e-3 if name == "auc" else 1e-5,
            err_msg=name,
        )  # fmt: skip
    assert 0 <= result["ece"] <= 1
    assert 0 <= result["f1"] <= 1
    # The list is in the order of the user's.
    values = model.evaluate(X, labels, batch_size=24, verbose=0)
    names = ["loss", *metrics]
    np.testing.assert_allclose(values, [result[n] for n in names], rtol=1e-5)


@pytest.mark.slow_on("tensorflow")
def test_weighted_metrics_are_computed_on_what_they_take():
    metrics = metrics_of_each_kind()
    model = model_with(
        metrics=[keras_mmrel.metrics.BrierScore(False, name="plain")],
        weighted_metrics=list(metrics.values()),
    )
    result = evaluated(model, sample_weight=WEIGHTS)
    p = model.predict(X, verbose=0)["probabilities"]
    for name, value in expected(p, Y, WEIGHTS).items():
        np.testing.assert_allclose(
            result[name], value, atol=3e-3 if name == "auc" else 1e-5,
            err_msg=name,
        )  # fmt: skip
    plain = np.square(p - ROWS).sum(1).mean()
    np.testing.assert_allclose(result["plain"], plain, atol=1e-5)


class MeanTop(keras.metrics.Mean):
    """The mean of the largest score: it says not what it takes."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        top = keras.ops.max(y_pred, axis=-1)
        return super().update_state(top, sample_weight)


def largest(y_true, y_pred):
    return keras.ops.max(y_pred, axis=-1)


@pytest.mark.slow_on("tensorflow")
def test_an_unknown_metric_gets_logits_or_what_the_user_says():
    model = model_with(
        metrics={
            "probabilities": [MeanTop(name="p"), "accuracy"],
            "logits": MeanTop(name="z"),
        },
        weighted_metrics=[MeanTop(name="w")],
    )
    history = model.fit(X, Y, batch_size=24, validation_data=(X, Y), verbose=0)
    assert {"p", "z", "w", "accuracy", "val_p"} <= set(history.history)
    result = evaluated(model)
    outputs = model.predict(X, verbose=0)
    for name, key in (("p", "probabilities"), ("z", "logits"), ("w", "logits")):
        mean = outputs[key].max(1).mean()
        np.testing.assert_allclose(result[name], mean, rtol=1e-5)
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert set(logs) == {"loss", "p", "z", "w", "accuracy"}
    model = model_with(metrics={"probabilities": [largest]})
    top = model.predict(X, verbose=0)["probabilities"].max(1).mean()
    np.testing.assert_allclose(evaluated(model)["largest"], top, rtol=1e-5)


@pytest.mark.slow_on("tensorflow")
def test_a_saved_model_computes_the_same_metrics(tmp_path):
    objects = {"MeanTop": MeanTop, "largest": largest}
    model = model_with(
        loss="mse",
        metrics={
            "probabilities": [MeanTop(name="p"), largest, keras.metrics.AUC],
            "logits": MeanTop(name="z"),
        },
        weighted_metrics=[keras.metrics.F1Score(average="macro", name="f1")],
    )
    before = evaluated(model, sample_weight=WEIGHTS)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", objects)
    after = evaluated(loaded, sample_weight=WEIGHTS)
    assert list(after) == list(before)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("loss", [
    "mse", "categorical_crossentropy", "sparse_categorical_crossentropy",
    "huber", keras.losses.CategoricalHinge(), keras.losses.mean_squared_error,
    keras.losses.CategoricalFocalCrossentropy(from_logits=True),
])  # fmt: skip
def test_a_loss_of_keras_is_the_same_for_labels_of_both_forms(loss):
    model = model_with(loss=loss, optimizer="sgd")
    numbers = evaluated(model, Y, sample_weight=WEIGHTS)["loss"]
    rows = evaluated(model, ROWS, sample_weight=WEIGHTS)["loss"]
    np.testing.assert_allclose(numbers, rows, rtol=1e-6)
    column = evaluated(model, Y[:, None], sample_weight=WEIGHTS)["loss"]
    np.testing.assert_allclose(column, rows, rtol=1e-6)
    if loss == "mse":
        z = model.predict(X, verbose=0)["logits"]
        mean = (np.square(z - ROWS).mean(1) * WEIGHTS).mean()
        np.testing.assert_allclose(numbers, mean, rtol=1e-5)
    history = model.fit(X, Y, batch_size=24, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "metrics, text",
    [
        ({"confidence": ["accuracy"]}, r"Received: \['confidence'\]"),
        (
            {"logits": [keras_mmrel.metrics.BrierScore(False)]},
            "of 'logits' must take logits. .*takes probabilities",
        ),
        (
            {"probabilities": [keras_mmrel.metrics.BrierScore()]},
            "of 'probabilities' must take probabilities",
        ),
        ({"logits": "auc"}, "'auc', which takes probabilities"),
        ([keras.metrics.Accuracy()], "'accuracy', a Accuracy"),
        ([keras.metrics.MeanIoU(3)], "a MeanIoU"),
        (
            [keras.metrics.OneHotIoU(3, [0], sparse_y_pred=True)],
            "a OneHotIoU",
        ),
        ([keras.metrics.Mean()], "a Mean"),
        ([keras.metrics.Sum()], "a Sum"),
        (["acuracy"], "names of metrics of Keras. Received: 'acuracy'"),
        ([3], "names of metrics of Keras. Received: 3"),
    ],
)
def test_a_metric_that_takes_something_else_is_refused(metrics, text):
    with pytest.raises(ValueError, match=text):
        model_with(metrics=metrics)
    with pytest.raises(ValueError, match=text):
        model_with(weighted_metrics=metrics)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "loss",
    [
        "kl_divergence", "poisson", "ctc", keras.losses.Dice(),
        keras.losses.CategoricalCrossentropy(),
        keras.losses.categorical_crossentropy,
        keras.losses.MeanAbsolutePercentageError(), 3, "no_such_loss",
    ],
)  # fmt: skip
def test_a_loss_that_takes_no_logits_is_refused(loss):
    with pytest.raises(ValueError, match="`loss` must"):
        model_with(loss=loss)


# -- What Keras takes without a look -----------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"clipnorm": -1.0}, "`clipnorm` must be a finite, positive number"),
        ({"clipnorm": 0.0}, "`clipnorm` must be a finite, positive number"),
        ({"clipvalue": np.nan}, "`clipvalue` must be a finite, positive"),
        ({"global_clipnorm": "a"}, "`global_clipnorm` must be a finite"),
        ({"weight_decay": -0.1}, "`weight_decay` must be a finite, non-neg"),
        ({"beta_1": 1.5}, r"`beta_1` must be a number in \[0, 1\)"),
        ({"beta_2": 1.0}, r"`beta_2` must be a number in \[0, 1\)"),
        ({"epsilon": -1e-7}, "`epsilon` must be a finite, non-negative"),
    ],
    ids=str,
)
@pytest.mark.parametrize("scaled", [False, True])
def test_numbers_of_an_optimizer_are_checked(options, text, scaled):
    optimizer = keras.optimizers.Adam(**options)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    with pytest.raises(ValueError, match=text):
        model_with(optimizer=optimizer)


@pytest.mark.one_backend
def test_every_optimizer_of_keras_passes_with_its_defaults():
    names = set(dir(keras.optimizers)) - {"Optimizer", "MultiOptimizer"}
    classes = [getattr(keras.optimizers, name) for name in sorted(names)]
    chosen = [
        c
        for c in classes
        if isinstance(c, type)
        and issubclass(c, keras.optimizers.Optimizer)
        and c is not keras.optimizers.LossScaleOptimizer
    ]
    assert len(chosen) > 10
    for cls in chosen:
        model_with(optimizer=cls(clipnorm=1.0))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_an_optimizer_of_another_model_is_refused(policy):
    optimizer = keras.optimizers.Adam()
    first = keras_mmrel.ConcatFusion(SHAPES, 3, dtype=policy)
    first.compile(optimizer, run_eagerly=EAGER)
    first.fit(X, Y, verbose=0)
    second = keras_mmrel.LateFusion(SHAPES, 3, dtype=policy)
    second.compile(optimizer, run_eagerly=EAGER)
    for train in (second.fit, second.train_on_batch):
        with pytest.raises(ValueError, match="`optimizer` must be new.*Adam"):
            train(X, Y)
    first.compile(optimizer, run_eagerly=EAGER)
    first.fit(X, Y, verbose=0)


@pytest.mark.parametrize("frozen", [False, True])
def test_weights_that_freeze_or_thaw_need_another_optimizer(frozen):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.encoders[0].trainable = not frozen
    model.compile(run_eagerly=EAGER)
    model.fit(X, Y, verbose=0)
    model.encoders[0].trainable = frozen
    with pytest.raises(ValueError, match="as after a change of `trainable`"):
        model.fit(X, Y, verbose=0)
    model.compile(run_eagerly=EAGER)
    model.fit(X, Y, verbose=0)


class Nothing(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return None


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (lambda y: y, "function of two arguments, labels and logits"),
        (lambda y, p, q: y, "function of two arguments"),
        (lambda y, p: None, "must return a tensor.* Received: NoneType"),
        (lambda y, p: "much", "must return a tensor.* Received: str"),
        (Nothing(), "must return a tensor.* Received: NoneType"),
    ],
)
def test_a_loss_takes_a_pair_and_returns_numbers(loss, text):
    with pytest.raises(ValueError, match=text):
        model_with(loss=loss)


def test_a_loss_of_ones_own_may_take_one_form_of_labels():
    def margin(y, logits):
        right = keras.ops.one_hot(keras.ops.cast(y, "int32"), 3)
        return 1.0 - keras.ops.sum(right * logits, axis=-1)

    def distance(y, logits):
        return keras.ops.mean(keras.ops.square(y - logits), axis=-1)

    for loss, labels in ((margin, Y), (distance, ROWS)):
        model = model_with(loss=loss, run_eagerly=EAGER)
        assert np.isfinite(model.fit(X, labels, verbose=0).history["loss"])
