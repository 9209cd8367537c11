"""`quality=`: any model may clean or mask its inputs before it decides."""

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.layers import CorruptionAugmentation
from keras_mmrel.layers import RangeControl
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import assert_close
from tests.helpers import everywhere
from tests.helpers import to_numpy
from tests.helpers import vectors

X, Y = vectors()
MODELS = {
    name: getattr(keras_mmrel, name)
    for name in keras_mmrel.models.__all__
    if name not in ("Clock", "MultimodalModel", "SideInput")
}
pytestmark = pytest.mark.filterwarnings("ignore:CAL measures")


def fitted(cls, **kwargs):
    # One feature of four may be out of range.
    quality = RangeControl(threshold=0.5)
    model = cls(SHAPES, 3, quality=quality, seed=0, **kwargs)
    model.compile(run_eagerly=EAGER)
    model.fit(X, Y, batch_size=24, epochs=2, verbose=0)
    return model


def predict(model, x):
    return model.predict(x, batch_size=48, verbose=0)


@pytest.mark.parametrize(
    "name", everywhere(MODELS, ["LateFusion", "QADMNet", "MICINet"])
)
def test_what_is_out_of_range_cannot_move_the_prediction(name):
    model = fitted(MODELS[name])
    clean = predict(model, X)
    np.testing.assert_array_equal(clean["modality_mask"], 1)
    # All of one modality: as if it were announced missing.
    far = {**X, "b": X["b"] + 1e3}
    mask = np.tile([1.0, 0.0, 1.0], (48, 1)).astype("float32")
    out = predict(model, far)
    np.testing.assert_array_equal(out["modality_mask"], mask)
    told = predict(model, {**X, "modality_mask": mask})
    assert_close(out, told, atol=5e-6)
    # One feature of a wide modality: its training mean stands in.
    first = X["a"].copy()
    first[:, 0] = 1e3
    mean = X["a"].copy()
    mean[:, 0] = X["a"][:, 0].mean()
    assert_close(
        predict(model, {**X, "a": first})["logits"],
        predict(model, {**X, "a": mean})["logits"],
        atol=1e-5,
    )


def test_clean_data_are_trained_on_as_without_it():
    kwargs = {"batch_size": 24, "epochs": 2, "verbose": 0, "shuffle": False}
    losses = []
    for quality in (None, RangeControl()):
        keras.utils.set_random_seed(1)
        model = keras_mmrel.LateFusion(SHAPES, 3, quality=quality, seed=3)
        model.compile(run_eagerly=EAGER)
        losses.append(model.fit(X, Y, **kwargs).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_ranges_are_those_of_the_samples_before_the_augmentation(tmp_path):
    augmentation = CorruptionAugmentation(
        noise_probability=1.0, sigmas=(50.0,), seed=0
    )
    model = fitted(keras_mmrel.LateFusion, augmentation=augmentation)
    state = [to_numpy(w) for w in model.quality.weights]
    plain = RangeControl()
    plain.adapt(X)
    for ours, expected in zip(state, plain.weights, strict=True):
        # `fit` has seen every sample twice: sums and counts are doubled.
        actual, expected = np.sort(ours.ravel()), to_numpy(expected).ravel()
        expected = np.sort(expected)
        assert np.allclose(actual, expected, rtol=1e-5) or np.allclose(
            actual, 2 * expected, rtol=1e-5
        )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.quality, RangeControl)
    far = {**X, "c": -X["c"] - 1e3}
    assert_close(predict(loaded, far), predict(model, far), atol=1e-6)


def test_a_quality_control_learns_from_clean_samples():
    with pytest.raises(ValueError, match="must be a Keras layer with `adapt"):
        keras_mmrel.LateFusion(SHAPES, 3, quality=keras.layers.Identity())


@pytest.mark.parametrize("bad", ["range", 0.5, RangeControl])
def test_a_quality_control_is_a_layer(bad):
    with pytest.raises(ValueError, match="`quality` must be a Keras layer"):
        keras_mmrel.LateFusion(SHAPES, 3, quality=bad)
