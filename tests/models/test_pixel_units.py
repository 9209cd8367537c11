"""Pictures as bytes, floats up to 255 or integers are the same pictures."""

import warnings

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.callbacks import ModalityMonitor
from keras_mmrel.encoders import ConvEncoder
from keras_mmrel.encoders import ImageEncoder
from keras_mmrel.encoders import VideoEncoder
from tests.helpers import EAGER

SHAPES = {"image": (6, 6, 3), "v": (4,)}
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (24, 6, 6, 3)).astype("uint8")
IMAGE[0, 0, 0] = 255
X = {"image": IMAGE, "v": RNG.normal(size=(24, 4)).astype("float32")}
Y = np.arange(24) % 2


def of(form, x=X):
    """The inputs, with pictures in another form."""
    image = x["image"]
    if form == "[0, 1]":
        return {**x, "image": image.astype("float32") / 255}
    return {**x, "image": image.astype(form)}


def made(kind=keras_mmrel.ConcatFusion, shapes=SHAPES, **options):
    keras.utils.set_random_seed(0)
    model = kind(shapes, 2, seed=0, **options)
    model.compile("sgd", run_eagerly=EAGER)
    return model


def trained(x, kind=keras_mmrel.ConcatFusion, shapes=SHAPES, **options):
    model = made(kind, shapes, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, Y, batch_size=12, epochs=2, shuffle=False, verbose=0)
    return model


def logits(model, x):
    return model.predict(x, batch_size=24, verbose=0)["logits"]


def said(run):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in seen if "up to" in str(w.message)]


@pytest.mark.parametrize("form", ["float32", "int32", "float16"])
def test_a_training_on_any_form_is_that_on_bytes(form):
    expected, model = trained(X), trained(of(form))
    for given in ("uint8", form):
        np.testing.assert_array_equal(
            logits(model, of(given)), logits(expected, X)
        )
    assert model.pixel_units.known() == {"image": 255.0}
    assert expected.pixel_units.known() == {"image": 1.0}


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "kind",
    [
        keras_mmrel.QADMNet,
        keras_mmrel.MICINet,
        keras_mmrel.AIM,
        keras_mmrel.CAL,
    ],
)
def test_it_holds_for_every_method(kind):
    model = trained(of("float32"), kind)
    np.testing.assert_array_equal(
        logits(model, of("float32")), logits(trained(X, kind), X)
    )


@pytest.mark.one_backend
def test_it_holds_with_an_input_quality():
    one, other = (
        trained(of(form), quality=keras_mmrel.layers.InputQuality())
        for form in ("uint8", "float32")
    )
    np.testing.assert_array_equal(logits(one, X), logits(other, of("float32")))


@pytest.mark.one_backend
def test_it_holds_for_backbones_and_videos():
    def shapes():
        keras.utils.set_random_seed(0)
        net = keras.Sequential(
            [keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3, name="conv")]
        )
        return {
            "image": ImageEncoder(net),
            "clip": VideoEncoder(ConvEncoder((4,))),
        }

    clip = np.stack([IMAGE, IMAGE[::-1]], axis=1)
    found = []
    for form in ("uint8", "float32"):
        x = {"image": IMAGE.astype(form), "clip": clip.astype(form)}
        found.append(logits(trained(x, shapes=shapes()), x))
    np.testing.assert_array_equal(*found)


def test_it_is_said_once_and_kept_in_the_file(tmp_path):
    model = made()
    x = of("float32")
    fit = {"batch_size": 12, "verbose": 0}
    first = said(lambda: model.fit(x, Y, **fit))
    assert len(first) == 1 and "['image'] hold numbers up to 255" in first[0]
    assert not said(lambda: model.fit(x, Y, **fit))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not said(
        lambda: np.testing.assert_array_equal(
            logits(loaded, x), logits(model, x)
        )
    )
    # What a later training has says nothing of the first.
    assert len(said(lambda: loaded.predict(of("[0, 1]"), verbose=0))) == 1
    loaded.fit(of("uint8"), Y, **fit)
    assert loaded.pixel_units.known() == {"image": 255.0}


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "image",
    [
        IMAGE.astype("float32") / 255,
        IMAGE.astype("float32") - 20,
        IMAGE.astype("float32") * 3,
        IMAGE.astype("float32") / 4,
        RNG.uniform(0, 200, (24, 4, 4, 8)).astype("float32"),
        RNG.uniform(0, 200, (24, 5, 6)).astype("float32"),
    ],
    ids=["unit", "negative", "large", "dark", "channels", "spectrogram"],
)
def test_what_may_be_no_pixels_is_left_alone(image):
    shapes = {**SHAPES, "image": image.shape[1:]}
    model = trained({**X, "image": image}, shapes=shapes)
    assert model.pixel_units.known() == {"image": 1.0}


@pytest.mark.one_backend
def test_vectors_have_no_unit():
    model = trained({"v": 200 * abs(X["v"])}, shapes={"v": (4,)})
    assert model.pixel_units.known() == {}
    assert not [w for w in model.weights if "pixel" in w.path]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        part = slice(12 * index, 12 * index + 12)
        return {k: v[part] for k, v in of("float32").items()}, Y[part]


@pytest.mark.one_backend
@pytest.mark.filterwarnings("ignore:Modalities")
def test_a_pipeline_and_single_batches_are_looked_at():
    expected = logits(trained(X), X)
    model = made()
    assert len(said(lambda: model.fit(Batches(), epochs=2, verbose=0))) == 1
    np.testing.assert_array_equal(logits(model, of("float32")), expected)
    model = made()
    for index in (0, 1, 0, 1):
        model.train_on_batch(*Batches()[index])
    assert model.pixel_units.known() == {"image": 255.0}


@pytest.mark.one_backend
def test_what_is_missing_says_nothing():
    x = of("float32")
    mask = np.ones((24, 2), "float32")
    mask[:12, 0] = 0
    x["image"][:12] = -1.0
    model = trained({**x, "modality_mask": mask})
    assert model.pixel_units.known() == {"image": 255.0}


@pytest.mark.one_backend
@pytest.mark.filterwarnings("ignore:Modalities")
def test_features_that_callbacks_look_at_are_those_of_the_model():
    x = of("float32")
    monitors = [
        ModalityMonitor(given, Y, "probe", training_data=(given, Y))
        for given in (X, x)
    ]
    for monitor, given in zip(monitors, (X, x), strict=True):
        made().fit(given, Y, callbacks=[monitor], epochs=2, verbose=0)
    one, other = (monitor.history for monitor in monitors)
    assert one == other


@pytest.mark.one_backend
def test_validation_data_do_not_decide():
    model = made()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(
            of("[0, 1]"), Y, validation_data=(of("float32"), Y), verbose=0
        )
    assert model.pixel_units.known() == {"image": 1.0}


@pytest.mark.one_backend
@pytest.mark.parametrize("form", ["float32", "int32"])
def test_noise_has_the_same_strength_in_every_form(form):
    noises = [
        keras_mmrel.corruptions.GaussianNoise(0.3, "image"),
        keras_mmrel.corruptions.SaltAndPepper(0.3, "image"),
    ]
    for noise in noises:
        unit = noise(of("[0, 1]"), seed=0)["image"]
        other = noise(of(form), seed=0)["image"]
        np.testing.assert_allclose(other, 255 * unit, atol=1e-3)
    # Nor does it change with what a missing picture holds.
    mask = np.ones((24, 1), "float32")
    mask[0] = 0
    x = {"image": of("float32")["image"], "modality_mask": mask}
    x["image"][0] = np.nan
    made = noises[0](x, seed=0)["image"][1:] - x["image"][1:]
    assert 60 < made.std() < 100
    # What may be no pixels has a unit of its own.
    dark = {"image": IMAGE.astype("float32") / 4}
    made = noises[0](dark, seed=0)["image"] - dark["image"]
    assert 0.2 < made.std() < 0.4
