"""Arguments of a run, beside data, are refused in one sentence of ours."""

import keras
import numpy as np
import pytest

import keras_mmrel
from tests.helpers import SHAPES
from tests.helpers import vectors

# Refused on the host, before any backend is asked.
pytestmark = pytest.mark.one_backend

X, Y = vectors()
MASK = np.ones((48, 3), "float32")


@pytest.fixture(scope="module")
def model():
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile()
    return model


COUNT = "must be a positive integer or None"
FIT = {
    "batch_size": ([0, -1, 2.5, "all", np.nan], COUNT),
    "steps_per_epoch": ([0, -1, 1.5], COUNT),
    "validation_steps": ([0, -2], COUNT),
    "validation_batch_size": ([0, "8"], COUNT),
    "validation_freq": ([0, -1, (0,)], "must be a positive integer"),
    "epochs": ([-1, 1.5, "3", None], "must be a non-negative integer"),
    "initial_epoch": ([-1, None], "must be a non-negative integer"),
    "validation_split": ([1.0, 1.5, -0.5, np.nan], r"a number in \[0, 1\)"),
    "shuffle": (["yes", 1], "must be True or False"),
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, (bad, _) in FIT.items() for v in bad]
)
def test_fit_refuses(model, name, value):
    with pytest.raises(ValueError, match=f"`{name}` .*{FIT[name][1]}"):
        model.fit(X, Y, validation_data=(X, Y), **{name: value})


@pytest.mark.parametrize("name", ["batch_size", "steps"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "8"])
def test_evaluate_and_predict_refuse(model, name, value):
    with pytest.raises(ValueError, match=f"`{name}` {COUNT}"):
        model.evaluate(X, Y, **{name: value})
    with pytest.raises(ValueError, match=f"`{name}` {COUNT}"):
        model.predict(X, **{name: value})


@pytest.mark.parametrize(
    "callbacks", ["early", [keras.callbacks.EarlyStopping], [print], [None]]
)
def test_callbacks_must_be_objects(model, callbacks):
    with pytest.raises(ValueError, match="`callbacks` must hold objects"):
        model.fit(X, Y, callbacks=callbacks)


@pytest.mark.parametrize("rate", [np.nan, np.inf, -1.0])
def test_a_learning_rate_must_be_usable(rate):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile(keras.optimizers.Adam(rate))
    with pytest.raises(ValueError, match="`learning_rate` must be a finite"):
        model.fit(X, Y)


def test_a_schedule_is_a_learning_rate():
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 10)
    model.compile(keras.optimizers.Adam(schedule))
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_model_must_be_compiled(method):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    with pytest.raises(ValueError, match="ConcatFusion must be compiled"):
        getattr(model, method)(X, Y)
    model.compile(optimizer=None)
    with pytest.raises(ValueError, match="`optimizer` must be an optimizer"):
        getattr(model, method)(X, Y)


@pytest.mark.parametrize("data", [(), [], (X, Y, None, None)])
def test_validation_data_must_be_a_pair(model, data):
    with pytest.raises(ValueError, match="`validation_data` must be .inputs"):
        model.fit(X, Y, validation_data=data)


NO_INPUTS = [None, 5, "file.npy", X["a"], list(X.values()), (X, Y)]


@pytest.mark.parametrize("inputs", NO_INPUTS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize(
    "method",
    ["fit", "evaluate", "predict", "predict_on_batch", "train_on_batch"],
)
def test_inputs_must_be_a_dict(model, method, inputs):
    with pytest.raises(ValueError, match="^Inputs must be a dict of modality"):
        getattr(model, method)(inputs)


BAD_VALUES = {
    "a": (
        [None, 1.0, "x", X["a"].tolist(), X["a"].astype(complex)],
        "Modality 'a' must",
    ),
    "modality_mask": (
        [MASK.tolist(), "all", 1.0, MASK[:, 0], MASK * np.nan, -MASK],
        "'modality_mask' must",
    ),
}


@pytest.mark.parametrize(
    ("name", "index"),
    [(n, i) for n, (bad, _) in BAD_VALUES.items() for i in range(len(bad))],
)
def test_values_must_be_arrays_of_numbers(model, name, index):
    bad, text = BAD_VALUES[name]
    x = {**X, name: bad[index]}
    for call in (model.predict, model.predict_on_batch):
        with pytest.raises(ValueError, match=f"^{text} .*Received: "):
            call(x)
    with pytest.raises(ValueError, match=f"^{text} .*Received: "):
        model.fit(x, Y)


def test_a_direct_call_names_what_is_wrong_without_lines_of_keras(model):
    with pytest.raises(ValueError, match="^Inputs must have exactly") as error:
        model({"a": X["a"]})
    assert "\n" not in str(error.value)


def test_both_kinds_of_weights_are_one_too_many(model):
    with pytest.raises(ValueError, match="`sample_weight` must be None where"):
        model.fit(
            X, Y, class_weight=dict.fromkeys(range(3), 1.0), sample_weight=MASK
        )


def test_raw_values_get_one_hint(model):
    raw = {**X, "b": X["b"] * 255}
    with pytest.warns(UserWarning, match="Modality 'b' holds .* scale") as seen:
        model.fit(raw, Y, verbose=0)
    hints = [w for w in seen if "scale each feature" in str(w.message)]
    assert len(hints) == 1


@pytest.mark.parametrize(
    "method", ["fit", "evaluate", "train_on_batch", "test_on_batch"]
)
@pytest.mark.parametrize("value", ["no", 1, None])
def test_flags_of_runs_are_no_words(model, method, value):
    name = "shuffle" if method == "fit" else "return_dict"
    with pytest.raises(ValueError, match=f"`{name}` must be True or False"):
        getattr(model, method)(X, Y, **{name: value})


@pytest.mark.parametrize("value", ["loud", -1, None, 0.5])
def test_verbose_is_a_level(model, value):
    runs = (model.fit, model.evaluate, lambda x, y, **k: model.predict(x, **k))
    for run in runs:
        with pytest.raises(ValueError, match="`verbose` must be"):
            run(X, Y, verbose=value)


def test_callbacks_of_all_runs_are_objects(model):
    with pytest.raises(ValueError, match="`callbacks` must hold objects"):
        model.evaluate(X, Y, callbacks="early")
    with pytest.raises(ValueError, match="`callbacks` must hold objects"):
        model.predict(X, callbacks=[print])


def test_no_epoch_comes_before_the_first(model):
    with pytest.raises(ValueError, match="`initial_epoch` must be at most"):
        model.fit(X, Y, epochs=2, initial_epoch=5)


@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch"])
def test_single_steps_need_a_compiled_model_and_a_rate(method):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    with pytest.raises(ValueError, match="ConcatFusion must be compiled"):
        getattr(model, method)(X, Y)
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.learning_rate = np.nan
    with pytest.raises(ValueError, match="`learning_rate` must be a finite"):
        getattr(model, method)(X, Y)


COMPILE = {
    "loss_weights": [np.inf, np.nan, -1.0, [1.0, 2.0], {"rank_loss": 0.0}],
    "run_eagerly": ["no", 1],
    "auto_scale_loss": ["no"],
    "jit_compile": ["no", 1],
    "steps_per_execution": [0, "2", 1.5],
    "optimizer": ["nonsense", 5, keras.optimizers.Adam],
    "loss": [None, 5, "nonsense"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, bad in COMPILE.items() for v in bad]
)
def test_compile_refuses(name, value):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    with pytest.raises(ValueError, match=f"`{name}` must .* Received: ") as e:
        model.compile(**{name: value})
    assert "\n" not in str(e.value)


def test_a_metric_is_not_called_like_a_term_of_the_loss():
    model = keras_mmrel.LateFusion(SHAPES, 3)
    metric = keras_mmrel.metrics.BrierScore(name="modality_loss")
    with pytest.raises(ValueError, match="`metrics` must have other names"):
        model.compile(metrics=[metric])


def test_a_model_computes_in_floats():
    with pytest.raises(ValueError, match="`dtype` must be a floating one"):
        keras_mmrel.TMC(SHAPES, 3, dtype="int32")


def test_a_loss_that_is_none_or_infinite_is_said():
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile(loss=lambda y, logits: keras.ops.mean(logits) * np.nan)
    with pytest.warns(UserWarning, match="loss of epoch 1 must be finite"):
        model.fit(X, Y, verbose=0)


def test_integers_are_as_large_as_floats():
    shapes = {"a": (6,), "b": (4,)}
    x = {"a": (X["a"] * 1e5).astype("int32"), "b": X["b"]}
    model = keras_mmrel.ConcatFusion(shapes, 3)
    model.compile()
    with pytest.warns(UserWarning, match="Modality 'a' holds values up to"):
        model.fit(x, Y, verbose=0)
    half = keras_mmrel.ConcatFusion(shapes, 3, dtype="mixed_float16")
    half.compile()
    with pytest.raises(ValueError, match="'a' must .* at most 65504"):
        half.fit(x, Y, verbose=0)
    huge = {**x, "a": (X["a"] * 1e17).astype("int64")}
    with pytest.raises(ValueError, match="'a' must .* at most 1e.15"):
        model.fit(huge, Y, verbose=0)


@pytest.mark.filterwarnings("error:Modality")
def test_numbers_of_tokens_are_the_encoders_affair():
    encoder = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            keras.layers.Embedding(100_001, 2),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    modalities = {"a": encoder, "b": (4,)}
    model = keras_mmrel.ConcatFusion(modalities, 3, dtype="mixed_float16")
    model.compile()
    x = {"a": np.full((48, 6), 100_000, "int32"), "b": X["b"]}
    x["a"][::2] = 3
    model.fit(x, Y, verbose=0)


def test_weights_have_a_limit_and_leave_a_sample(model):
    with pytest.raises(ValueError, match="`sample_weight` must be at most"):
        model.fit(X, Y, sample_weight=np.full(48, 1e38))
    weights = {0: 0.0, 1: 0.0, 2: 1.0}
    with pytest.raises(ValueError, match="`class_weight` must be above 0"):
        model.fit(X, np.where(Y == 2, 1, Y), class_weight=weights)


@pytest.mark.parametrize("cls", ["QMF", "CAL"])
def test_side_inputs_are_arrays(cls):
    model = getattr(keras_mmrel, cls)(SHAPES, 3)
    model.compile()
    name = {"QMF": "sample_id", "CAL": "held_out"}[cls]
    with pytest.raises(ValueError, match=f"'{name}' must be an array or a"):
        model.fit({**X, name: [0] * 48}, Y, verbose=0)


def test_labels_of_a_pipeline_are_there(model):
    with pytest.raises(ValueError, match="`y` must hold a label for each"):
        model.evaluate(((X,) for _ in range(2)), steps=2, verbose=0)


def test_the_first_batch_of_a_generator_is_looked_at(model):
    def batches(x, y):
        for _ in range(2):
            yield (x, y)

    bad = {**X, "a": X["a"] * np.nan}
    with pytest.raises(ValueError, match="'a' must be finite .* 288 NaN"):
        model.predict(((bad,) for _ in range(2)), steps=2, verbose=0)
    with pytest.raises(ValueError, match="'a' must be finite .* 288 NaN"):
        model.evaluate(batches(bad, Y), steps=2, verbose=0)
    with pytest.raises(ValueError, match=r"`y` must .*\[0, 3\)"):
        model.evaluate(batches(X, Y + 1), steps=2, verbose=0)
    out = model.predict(((X,) for _ in range(2)), steps=2, verbose=0)
    assert len(out["logits"]) == 96


def test_lost_weights_are_not_trained_and_predictions_of_them_are_warned_of():
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile()
    good = model.get_weights()
    for bad in (np.nan, np.inf):
        weight = model.trainable_weights[0]
        weight.assign(np.full(weight.shape, bad))
        with pytest.raises(ValueError, match="finite weights.* Received: 1 of"):
            model.fit(X, Y)
        with pytest.warns(UserWarning, match="logits of 48 of 48 samples"):
            model.predict(X, verbose=0)
        model.set_weights(good)
    model.fit(X, Y, verbose=0)


def test_a_split_leaves_samples_to_train_on(model):
    x = {name: value[:10] for name, value in X.items()}
    with pytest.raises(ValueError, match="`validation_split` must leave"):
        model.fit(x, Y[:10], validation_split=0.99)
    model.fit(x, Y[:10], validation_split=1e-9, verbose=0)


def test_a_modulation_of_one_modality_is_warned_of():
    model = keras_mmrel.ConcatFusion({"a": (6,)}, 3)
    with pytest.warns(UserWarning, match="two modalities .* Received: OGM"):
        model.compile(modulation=keras_mmrel.modulations.OGM())


def test_an_argument_that_a_method_does_not_have_is_named(model):
    with pytest.raises(ValueError, match="`fit` must .*`epochs` is meant"):
        model.fit(X, Y, epoch=3)
    with pytest.raises(ValueError, match="`evaluate` must .*`return_dict`"):
        model.evaluate(X, Y, returndict=True)
    with pytest.raises(ValueError, match="`predict` must .*`batch_size`"):
        model.predict(X, batch=3)
    with pytest.raises(ValueError, match="`compile` must get arguments"):
        model.compile(lr=0.1)
