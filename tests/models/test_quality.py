"""`quality=`: any model may clean or mask its inputs before it decides."""

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.layers import CorruptionAugmentation
from keras_mmrel.layers import InputQuality
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
    if name not in ("AuxiliaryPaths", "Clock", "MultimodalModel", "SideInput")
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


@pytest.mark.slow_on("jax", "tensorflow")
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


@pytest.mark.slow_on("tensorflow")
def test_clean_data_are_trained_on_as_without_it():
    kwargs = {"batch_size": 24, "epochs": 2, "verbose": 0, "shuffle": False}
    losses = []
    for quality in (None, RangeControl()):
        keras.utils.set_random_seed(1)
        model = keras_mmrel.LateFusion(SHAPES, 3, quality=quality, seed=3)
        model.compile(run_eagerly=EAGER)
        losses.append(model.fit(X, Y, **kwargs).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.slow_on("jax")
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


def test_no_modality_is_called_like_the_quality():
    with pytest.raises(ValueError, match="'modality_quality'. Received: name"):
        keras_mmrel.LateFusion({"modality_quality": (3,), "a": (2,)}, 3)


@pytest.mark.parametrize("bad", ["range", 0.5, RangeControl])
def test_a_quality_control_is_a_layer(bad):
    with pytest.raises(ValueError, match="`quality` must be a Keras layer"):
        keras_mmrel.LateFusion(SHAPES, 3, quality=bad)


# -- InputQuality ------------------------------------------------------------


def judged(cls=keras_mmrel.ConcatFusion, x=X, y=Y, batch_size=24, **kwargs):
    model = cls(SHAPES, 3, quality=InputQuality(), seed=0, **kwargs)
    model.compile(run_eagerly=EAGER)
    model.fit(x, y, batch_size=batch_size, epochs=1, verbose=0)
    return model


def shuffled(x, name):
    rng = np.random.default_rng(0)
    columns = [rng.permutation(column) for column in x[name].T]
    return {**x, name: np.stack(columns, axis=1)}


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize(
    "name", everywhere(MODELS, ["LateFusion", "QADMNet", "MICINet"])
)
def test_every_model_says_what_it_does_not_believe(name):
    model = judged(MODELS[name])
    assert model.quality.adapted
    clean = predict(model, X)
    assert clean["modality_quality"].shape == (48, 3)
    noise = np.random.default_rng(0).normal(size=X["b"].shape)
    bad = {**X, "b": (X["b"] + 2.0 * noise).astype("float32")}
    out = predict(model, bad)
    assert out["modality_quality"][:, 1].mean() < 0.5
    np.testing.assert_array_equal(
        out["modality_quality"][:, ::2], clean["modality_quality"][:, ::2]
    )
    assert (out["confidence"] <= out["modality_quality"] + 1e-6).all()


def test_it_is_adapted_once_before_the_first_step_to_the_training_data():
    alone = InputQuality()
    alone.adapt(X, Y)
    model = judged()
    for ours, theirs in zip(model.quality.weights, alone.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
    model.fit(*vectors(seed=5), batch_size=24, epochs=1, verbose=0)
    for ours, theirs in zip(model.quality.weights, alone.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


@pytest.mark.one_backend
def test_what_the_user_has_adapted_stays():
    other, labels = vectors(96, seed=5)
    quality = InputQuality()
    quality.adapt(other, labels)
    before = [to_numpy(w) for w in quality.weights]
    model = keras_mmrel.ConcatFusion(SHAPES, 3, quality=quality)
    model.compile(run_eagerly=EAGER)
    model.fit(X, Y, batch_size=24, epochs=1, verbose=0)
    for old, new in zip(before, quality.weights, strict=True):
        np.testing.assert_array_equal(old, to_numpy(new))


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 4

    def __getitem__(self, index):
        rows = slice(12 * index, 12 * index + 12)
        return keras.tree.map_structure(lambda v: v[rows], self.parts)


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_pipeline_is_read_before_the_first_step():
    weight = np.ones(48, "float32")
    model = judged(x=Batches(X, Y, weight), y=None, batch_size=None)
    arrays = judged()
    for ours, theirs in zip(
        model.quality.weights, arrays.quality.weights, strict=True
    ):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


@pytest.mark.one_backend
def test_a_generator_needs_an_adapted_layer():
    def batches():
        while True:
            yield {k: v[:24] for k, v in X.items()}, Y[:24]

    model = keras_mmrel.ConcatFusion(SHAPES, 3, quality=InputQuality())
    model.compile(run_eagerly=EAGER)
    with pytest.raises(ValueError, match="`quality` must be adapted before"):
        model.fit(batches(), steps_per_epoch=2, verbose=0)
    model.quality.adapt(X, Y)
    model.fit(batches(), steps_per_epoch=2, verbose=0)


@pytest.mark.one_backend
def test_samples_of_weight_0_and_missing_ones_teach_it_nothing():
    far = {k: np.concatenate([v, 100.0 + v]) for k, v in X.items()}
    y = np.concatenate([Y, Y])
    weight = np.repeat([1.0, 0.0], 48)
    for extra in ({"sample_weight": weight}, {"modality_mask": weight}):
        x = dict(far)
        if "modality_mask" in extra:
            x["modality_mask"] = np.tile(weight[:, None], (1, 3))
            extra = {}
        model = keras_mmrel.ConcatFusion(SHAPES, 3, quality=InputQuality())
        model.compile(run_eagerly=EAGER)
        model.fit(x, y, batch_size=24, epochs=1, verbose=0, **extra)
        high = to_numpy(model.quality.judged["a"]["high"])
        assert (high < 10.0).all()


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("name", ["ConcatFusion", "LateFusion"])
@pytest.mark.parametrize("wild", [1e3, 1e9])
def test_wild_values_cannot_move_a_judged_prediction(name, wild):
    model = judged(MODELS[name])
    signs = np.sign(np.random.default_rng(0).normal(size=X["b"].shape))
    far = {**X, "b": (wild * signs).astype("float32")}
    moved = predict(model, far)["logits"] - predict(model, X)["logits"]
    assert np.abs(moved).max() < 5


@pytest.mark.one_backend
def test_classes_of_weight_0_teach_it_nothing():
    x, y = vectors(120, classes=4)
    for values in x.values():
        values[y == 3] += 100.0
    model = keras_mmrel.ConcatFusion(SHAPES, 4, quality=InputQuality())
    model.compile(run_eagerly=EAGER)
    weight = {0: 1.0, 1: 1.0, 2: 1.0, 3: 0.0}
    model.fit(x, y, epochs=1, verbose=0, class_weight=weight)
    assert (to_numpy(model.quality.judged["a"]["high"]) < 10).all()


@pytest.mark.one_backend
def test_a_layer_that_learns_nothing_says_so():
    model = keras_mmrel.ConcatFusion(SHAPES, 3, quality=InputQuality())
    model.compile(run_eagerly=EAGER)
    with pytest.warns(UserWarning, match="has learnt nothing"):
        few = {k: v[:12] for k, v in X.items()}
        model.fit(few, Y[:12], epochs=1, verbose=0)


class Doubled(keras.layers.Layer):
    """The least that `quality=` takes."""

    def adapt(self, inputs, y):
        self.seen = len(y)

    def call(self, inputs):
        return {**inputs, "a": 2.0 * inputs["a"]}


@pytest.mark.one_backend
def test_a_layer_of_ones_own_needs_adapt_alone():
    for x, y in ((X, Y), (Batches(X, Y), None)):
        model = keras_mmrel.ConcatFusion(SHAPES, 3, quality=Doubled())
        model.compile(run_eagerly=EAGER)
        model.fit(x, y, epochs=1, verbose=0)
        assert model.quality.seen == 48


@pytest.mark.one_backend
def test_what_validation_gets_teaches_it_nothing():
    far = {k: np.concatenate([v, 100.0 + v]) for k, v in X.items()}
    model = keras_mmrel.ConcatFusion(SHAPES, 3, quality=InputQuality())
    model.compile(run_eagerly=EAGER)
    y = np.concatenate([Y, Y])
    model.fit(far, y, validation_split=0.5, epochs=1, verbose=0)
    for ours, theirs in zip(
        model.quality.weights, judged().quality.weights, strict=True
    ):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


def test_features_follow_the_quality_relative_to_the_best():
    model = judged()
    quality = np.array([[1.0, 0.5, 0.25], [0.2, 0.1, 0.2], [0.0, 0.0, 0.0]])
    inputs = model.prepare_inputs({k: v[:3] for k, v in X.items()})
    plain = to_numpy(model.encode(inputs))
    inputs["modality_quality"] = keras.ops.cast(quality, "float32")
    received = to_numpy(model.encode(inputs))
    expected = [[1, 0.5, 0.25], [1, 0.5, 1], [1, 1, 1]]
    for m in range(3):
        for row in range(3):
            np.testing.assert_allclose(
                received[m][row],
                plain[m][row] * expected[row][m],
                rtol=1e-4,
                atol=1e-6,
            )
    # Nothing is weighed where a method asks for that.
    unweighed = to_numpy(model.encode(inputs, weighed=False))
    np.testing.assert_array_equal(unweighed[1], plain[1])


@pytest.mark.slow_on("tensorflow")
def test_a_judged_model_is_saved_and_goes_on(tmp_path):
    model = judged()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.quality, InputQuality)
    bad = shuffled(X, "a")
    assert_close(predict(loaded, bad), predict(model, bad), atol=1e-5)
    loaded.fit(X, Y, batch_size=24, epochs=1, verbose=0)


@pytest.mark.one_backend
def test_nothing_is_believed_of_a_modality_that_was_never_trained_on():
    """A modality that is the same in all training samples counts as missing."""
    with pytest.warns(UserWarning, match="are the same in every"):
        model = judged(x={**X, "c": np.full_like(X["c"], 3.0)})
    out = predict(model, X)
    np.testing.assert_array_equal(out["modality_quality"][:, 2], 0)
