"""Side inputs: declared on a class, and the base does the rest."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.models import SideInput
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import vectors

X, Y = vectors()


def refuse_negative(model, values):
    if values.min() < 0:
        raise ValueError(
            f"'difficulty' must not be negative. Received: {values.min()}"
        )


class Curriculum(keras_mmrel.ConcatFusion):
    """Counts each sample by how easy it is: a method in ten lines."""

    side_inputs = (
        SideInput(
            "difficulty",
            "float32",
            check=refuse_negative,
            default=lambda model, x, samples: np.full(samples, 0.5),
            required=lambda model: True,
            missing="; ask the teacher",
        ),
    )

    def loss_weights(self, outputs, sample_weight):
        easy = 1.0 - outputs[TRAINING_RECORD]["difficulty"]
        assert sample_weight is None
        return easy


def compiled(**kwargs):
    encoders = {
        name: keras.Sequential([keras.Input(shape), keras.layers.Dense(4)])
        for name, shape in SHAPES.items()
    }
    model = Curriculum(encoders, 3, **kwargs)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=EAGER)
    return model


def loss_of(model, x=X):
    return model.fit(x, Y, batch_size=48, verbose=0).history["loss"][0]


def test_values_reach_the_training_step_and_nothing_else():
    model = compiled()
    plain = model.evaluate(X, Y, batch_size=48, verbose=0)[0]
    np.testing.assert_allclose(loss_of(model), 0.5 * plain, rtol=1e-5)
    given = {**X, "difficulty": np.zeros(48)}
    np.testing.assert_allclose(loss_of(model, given), plain, rtol=1e-5)
    # As integers, as a column, in another order of the dict.
    given = {"difficulty": np.zeros((48, 1), int), **X}
    np.testing.assert_allclose(loss_of(model, given), plain, rtol=1e-5)
    for inputs in (X, given):
        np.testing.assert_array_equal(
            model.predict(inputs, verbose=0)["logits"],
            model.predict(X, verbose=0)["logits"],
        )


def test_evaluation_and_prediction_ignore_them():
    model = compiled()
    odd = {**X, "difficulty": -np.ones(48)}
    model.evaluate(odd, Y, verbose=0)
    model.predict(odd, verbose=0)
    model.test_on_batch(odd, Y)
    model.fit(X, Y, validation_data=(odd, Y), verbose=0)


def test_validation_split_takes_them_along():
    history = compiled().fit(X, Y, validation_split=0.25, verbose=0).history
    assert np.isfinite(history["val_loss"]).all()


@pytest.mark.parametrize(
    "value, text",
    [
        (-np.ones(48), "'difficulty' must not be negative"),
        (np.ones(40), r"one value a sample, of shape \(48,\)"),
        (np.ones((48, 2)), "one value a sample"),
    ],
)
def test_bad_values_are_refused_before_the_first_step(value, text):
    model = compiled()
    with pytest.raises(ValueError, match=text):
        model.fit({**X, "difficulty": value}, Y, verbose=0)
    with pytest.raises(ValueError, match=text):
        model.train_on_batch({**X, "difficulty": value}, Y)
    assert float(ops.convert_to_numpy(model.clock.step)) == 0


def test_required_values_of_a_pipeline_are_asked_for():
    model = compiled()
    text = "'difficulty', one value a sample.*ask the teacher"
    with pytest.raises(ValueError, match=text):
        model.train_on_batch(X, Y)
    batches = ((x, Y) for x in [X, X])
    with pytest.raises(ValueError, match=text):
        model.fit(batches, steps_per_epoch=2, verbose=0)
    batches = (({**X, "difficulty": np.ones(48)}, Y) for _ in range(2))
    model.fit(batches, steps_per_epoch=2, verbose=0)


def test_no_modality_has_the_name_of_a_side_input():
    with pytest.raises(ValueError, match="not be named 'difficulty'.*Curric"):
        Curriculum({"a": (6,), "difficulty": (2,)}, 3)
    with pytest.raises(ValueError, match="not be named 'sample_id'"):
        keras_mmrel.QMF({"a": (6,), "sample_id": (2,)}, 3)
    with pytest.raises(ValueError, match="not be named 'held_out'"):
        keras_mmrel.CAL({"a": (6,), "held_out": (2,)}, 3)
