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
