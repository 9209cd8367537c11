"""Values of another size than those of training are named, once."""

import functools
import warnings

import keras
import numpy as np
import pytest

import keras_mmrel
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import vectors

X, Y = vectors()


def trained(x=X, shapes=SHAPES):
    model = keras_mmrel.ConcatFusion(shapes, 3, seed=0)
    model.compile(run_eagerly=EAGER)
    model.fit(x, Y, batch_size=24, verbose=0)
    return model


def warned(run):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in seen if "scale" in str(w.message)]


def test_raw_values_for_a_model_of_scaled_ones_are_named_once(tmp_path):
    model = trained()
    raw = {**X, "b": X["b"] * 255}
    assert not warned(lambda: model.predict(X, verbose=0))
    model.save(tmp_path / "model.keras")
    # The file knows it as well.
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        found = warned(functools.partial(one.predict, raw, verbose=0))
        assert len(found) == 1 and "Modality 'b' holds values up to" in found[0]
        assert not warned(functools.partial(one.evaluate, raw, Y, verbose=0))


@pytest.mark.one_backend
@pytest.mark.parametrize("later", ["predict", "evaluate", "predict_on_batch"])
def test_each_modality_is_named_once_whatever_notices_it(later):
    model = trained()
    b, both = ({**X, **{n: X[n] * 255 for n in names}} for names in ("b", "ab"))
    labels = [Y] * (later == "evaluate")
    quiet = {} if later == "predict_on_batch" else {"verbose": 0}
    run = functools.partial(getattr(model, later), both, *labels, **quiet)
    (found,) = warned(lambda: model.predict(b, verbose=0))
    assert "Modality 'b'" in found
    # What is said of one modality silences no other.
    (found,) = warned(run)
    assert "Modality 'a'" in found
    assert not warned(run)
    assert not warned(lambda: model.evaluate(both, Y, verbose=0))


@pytest.mark.one_backend
def test_a_second_training_says_nothing_again():
    raw = {n: value * 255 for n, value in X.items()}
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile(run_eagerly=EAGER)
    found = warned(lambda: model.fit({**X, "a": raw["a"]}, Y, verbose=0))
    assert len(found) == 1 and "Modality 'a' holds" in found[0]
    # Arrays and pipelines alike.
    found = warned(lambda: model.fit(Batches(raw), verbose=0))
    assert len(found) == 2 and "Modality 'a'" not in "".join(found)
    for x in (raw, {**X, "a": raw["a"]}):
        assert not warned(functools.partial(model.fit, x, Y, verbose=0))
    # It is the model that has said it.
    assert len(warned(lambda: trained(raw))) == 3


@pytest.mark.one_backend
def test_small_values_for_a_model_of_raw_ones_are_named():
    raw = {**X, "b": X["b"] * 255}
    model = trained(raw)
    part = {name: value[:4] for name, value in X.items()}
    assert not warned(lambda: model.predict(part, verbose=0))
    assert len(warned(lambda: model.predict(X, verbose=0))) == 1


@pytest.mark.one_backend
def test_noise_that_a_report_simulates_is_no_other_size():
    model = trained()
    noise = keras_mmrel.corruptions.GaussianNoise(2.0, "one")
    noisy = noise(X, seed=0)
    assert not warned(lambda: model.predict(noisy, verbose=0))


@pytest.mark.one_backend
def test_decibels_get_the_hint_in_training():
    decibels = {**X, "a": X["a"] * 20 - 60}
    assert len(warned(lambda: trained(decibels))) == 1
    assert not warned(lambda: trained({**X, "a": X["a"] * 3 - 2}))


@pytest.mark.one_backend
def test_bytes_of_pictures_get_none():
    shapes = {**SHAPES, "image": (4, 4, 3)}
    image = np.random.default_rng(0).integers(0, 256, (48, 4, 4, 3))
    x = {**X, "image": image.astype("uint8")}
    made = []
    assert not warned(lambda: made.append(trained(x, shapes)))
    floats = {**x, "image": (image / 255).astype("float32")}
    assert not warned(lambda: made[0].predict(floats, verbose=0))
    raw = {**x, "image": image.astype("float32")}
    assert len(warned(lambda: made[0].predict(raw, verbose=0))) == 1


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 2

    def __getitem__(self, index):
        part = slice(24 * index, 24 * index + 24)
        return {k: v[part] for k, v in self.x.items()}, Y[part]


@pytest.mark.one_backend
def test_a_pipeline_gets_the_hint_too():
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile(run_eagerly=EAGER)
    decibels = Batches({**X, "a": X["a"] * 20 - 60})
    assert len(warned(lambda: model.fit(decibels, verbose=0))) == 1


@pytest.mark.one_backend
def test_pixels_of_another_scale_are_named_for_an_encoder_of_images():
    backbone = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Conv2D(4, 3)]
    )
    shapes = {"image": keras_mmrel.encoders.ImageEncoder(backbone), "a": (6,)}
    image = np.random.default_rng(0).integers(0, 256, (48, 4, 4, 3))
    x = {"image": image.astype("uint8"), "a": X["a"]}
    model = keras_mmrel.ConcatFusion(shapes, 3)
    model.compile(run_eagerly=EAGER)
    assert not warned(lambda: model.fit(x, Y, verbose=0))
    for dtype in ("int32", "float32"):
        raw = {**x, "image": image.astype(dtype)}
        model.modality_inputs.ranges.said.clear()
        assert (
            len(warned(functools.partial(model.predict, raw, verbose=0))) == 1
        )
