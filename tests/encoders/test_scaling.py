"""An encoder that scales learns how from the training data."""

import warnings

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel import encoders
from tests.helpers import EAGER
from tests.helpers import json_round_trip
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy
from tests.helpers import vectors

SHAPES = {"a": (6,), "b": (4,)}
X, Y = vectors(shapes=SHAPES)
RNG = np.random.default_rng(0)


def made(method="ConcatFusion", **options):
    keras.utils.set_random_seed(0)
    modalities = {"a": (6,), "b": encoders.Scaling((4,), seed=1)}
    model = getattr(keras_mmrel, method)(modalities, 3, seed=0, **options)
    model.compile(run_eagerly=EAGER)
    return model


def test_scaling():
    run_layer_checks(
        encoders.Scaling((5, 4), encoders.ConvEncoder((3,))),
        RNG.normal(size=(3, 5, 4)).astype("float32"),
        output_shapes=(3, 3),
    )


def test_statistics_are_those_of_the_samples_that_count():
    x = RNG.normal(-60, [1, 2, 4], size=(500, 7, 3))
    present = np.arange(500) % 2 == 0
    layer = encoders.Scaling((7, 3))
    layer.adapt(np.where(present[:, None, None], x, 1e3), present)
    some = x[present].reshape(-1, 3)
    np.testing.assert_allclose(
        to_numpy(layer.front.mean), some.mean(axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(
        to_numpy(layer.front.variance), some.var(axis=0), rtol=1e-5
    )
    scaled = to_numpy(layer.front(x.astype("float32")))
    assert np.abs(scaled.mean(axis=(0, 1))).max() < 0.1
    assert np.abs(scaled.std(axis=(0, 1)) - 1).max() < 0.1


def test_values_that_never_vary_are_not_blown_up():
    x = RNG.normal(size=(200, 3))
    x[:, 0] = 5.0
    layer = encoders.Scaling((3,))
    layer.adapt(x)
    x[:, 0] += 0.01
    assert np.abs(to_numpy(layer.front(x))[:, 0]).max() < 1


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("method", ["ConcatFusion", "AIM"])
def test_a_fit_learns_how_to_scale_and_saves_it(method, tmp_path):
    mask = np.ones((48, 2), "float32")
    mask[::3, 1] = 0
    raw = {"a": X["a"], "b": 50 * X["b"] - 60, "modality_mask": mask}
    raw["b"] = np.where(mask[:, 1:] > 0, raw["b"], 1e4).astype("float32")
    model = made(method)
    model.fit(raw, Y, verbose=0)
    front = keras_mmrel.models._scaled.scaling_layers(model)["b"][0]
    there = raw["b"][mask[:, 1] > 0]
    np.testing.assert_allclose(
        to_numpy(front.mean), there.mean(axis=0), rtol=1e-4
    )
    out = model.predict(raw, verbose=0)["logits"]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(raw, verbose=0)["logits"], out, atol=1e-5
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_unit_of_the_data_plays_no_part():
    model, other = made(), made()
    raw = {"a": X["a"], "b": (200 * X["b"] - 60).astype("float32")}
    run = {"batch_size": 24, "epochs": 3, "shuffle": False, "verbose": 0}
    history = model.fit(X, Y, **run).history
    with warnings.catch_warnings():
        # Nothing is to be said of values that are scaled.
        warnings.simplefilter("error", UserWarning)
        again = other.fit(raw, Y, **run).history
    np.testing.assert_allclose(history["loss"], again["loss"], rtol=1e-3)


@pytest.mark.one_backend
def test_rows_of_weight_0_and_of_validation_are_none():
    model = made()
    weight = np.ones(48)
    weight[:8] = 0
    model.fit(X, Y, sample_weight=weight, validation_split=0.25, verbose=0)
    front = model.encoders[1].front
    np.testing.assert_allclose(
        to_numpy(front.mean), X["b"][8:36].mean(axis=0), rtol=1e-4
    )
    assert float(front.count) == 28


@pytest.mark.one_backend
def test_it_learns_once():
    model = made()
    model.encoders[1].adapt(X["b"] + 7)
    model.fit(X, Y, verbose=0)
    np.testing.assert_allclose(
        to_numpy(model.encoders[1].front.mean),
        X["b"].mean(axis=0) + 7,
        rtol=1e-4,
    )


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        part = slice(12 * index, 12 * index + 12)
        return {k: v[part] for k, v in X.items()}, Y[part]


@pytest.mark.one_backend
def test_it_learns_from_a_pipeline_but_not_from_a_generator():
    model = made()
    with pytest.raises(ValueError, match="must be adapted before `fit`"):
        model.fit(iter([(X, Y)]), verbose=0)
    assert not model.encoders[1].adapted
    model.fit(Batches(), verbose=0)
    np.testing.assert_allclose(
        to_numpy(model.encoders[1].front.mean), X["b"].mean(axis=0), rtol=1e-4
    )


def nested(kind):
    """An encoder that scales what it makes of a modality, and what that is."""
    if kind == "video":
        x = RNG.integers(0, 256, (48, 2, 4, 4, 1)).astype("uint8")
        seen = x.reshape(-1, 1) / 255
        scaling = encoders.Scaling((4, 4, 1), encoders.ConvEncoder((3,)))
        return encoders.VideoEncoder(scaling), x, seen
    x = RNG.normal(-60, [1, 9, 3], (48, 3)).astype("float32")
    if kind == "first":
        parts = [encoders.Scaling((3,)), keras.layers.Dense(4)]
        return keras.Sequential(parts), x, x
    parts = [keras.layers.Rescaling(0.5), encoders.Scaling((3,))]
    return keras.Sequential([keras.Input((3,)), *parts]), x, x / 2


@pytest.mark.parametrize(
    "method, kind",
    [
        ("LateFusion", "video"),
        ("LateFusion", "first"),
        pytest.param("AIM", "video", marks=pytest.mark.one_backend),
        pytest.param("LateFusion", "later", marks=pytest.mark.one_backend),
    ],
)
def test_one_inside_another_encoder_learns_from_what_it_gets(method, kind):
    encoder, values, seen = nested(kind)
    x = {"b": values, "a": X["a"], "modality_mask": np.ones((48, 2))}
    x["modality_mask"][:5, 0] = 0
    model = getattr(keras_mmrel, method)({"b": encoder, "a": (6,)}, 3)
    model.compile(run_eagerly=EAGER)
    model.fit(x, Y, verbose=0)
    (front,) = keras_mmrel.models._scaled.scaling_layers(model)["b"]
    there = seen[5 * len(seen) // 48 :]
    assert float(front.count) == len(there)
    for found, expected in (
        (front.mean, there.mean(0)),
        (front.variance, there.var(0)),
    ):
        np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-4)


@pytest.mark.one_backend
def test_without_a_fit_it_says_that_it_knows_no_data():
    model = made()
    with pytest.raises(ValueError, match="adapted before a training without"):
        model.train_on_batch(X, Y)
    with pytest.warns(UserWarning, match=r"of \['b'\] knows no data"):
        model.predict(X, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        # It is said once, and not of one that knows some.
        model.evaluate(X, Y, verbose=0)
        other = made()
        other.encoders[1].adapt(X["b"])
        other.train_on_batch(X, Y)
        other.predict_on_batch(X)
        made().fit(X, Y, validation_data=(X, Y), verbose=0)


@pytest.mark.one_backend
def test_a_fit_that_fails_teaches_nothing():
    model = made()
    with pytest.raises(ValueError, match="seven"):
        model.fit(X, Y, callbacks=[Failing()], verbose=0)
    assert not model.encoders[1].adapted


class Failing(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        raise ValueError("seven")


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "x, present, expected",
    [
        (
            np.ones((9, 8)),
            None,
            r"`inputs` must have the shape \(samples, 4\)",
        ),
        (np.full((9, 4), np.nan), None, "`inputs` must be finite"),
        (np.ones((9, 4)), np.ones(5), "`present` must have one value a sample"),
    ],
)
def test_what_is_no_data_teaches_nothing(x, present, expected):
    layer = encoders.Scaling((4,))
    with pytest.raises(ValueError, match=expected):
        layer.adapt(x, present)
    assert not layer.adapted


@pytest.mark.one_backend
def test_one_scaling_for_two_modalities_is_refused():
    scaling = encoders.Scaling((4,))
    model = keras_mmrel.LateFusion({"a": scaling, "b": scaling}, 3)
    model.compile()
    with pytest.raises(ValueError, match="a `encoders.Scaling`|of its own"):
        model.fit({"a": X["b"], "b": X["b"]}, Y, verbose=0)


def test_each_number_of_a_vector_has_a_unit_of_its_own():
    x = RNG.normal(size=(300, 2)) * [1e-3, 1e3] + [1.7, 4e4]
    layer = encoders.Scaling((2,))
    layer.adapt(x)
    scaled = to_numpy(layer.front(x.astype("float32")))
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=0.01)
    # A band of a spectrogram that hardly varies stays small.
    bands = encoders.Scaling((5, 2))
    bands.adapt(np.repeat(x[:, None] - [1.7, 4e4], 5, axis=1))
    scaled = to_numpy(bands.front(np.repeat(x[:, None], 5, axis=1)))
    assert scaled[..., 0].std() < 1e-3


def padded(count=40, steps=9):
    """Sequences of any length in units of their own, and rubbish behind."""
    lengths = RNG.integers(1, steps + 1, count)
    mask = np.arange(steps) < lengths[:, None]
    values = RNG.normal([-60, 5, 900], [20, 0.1, 300], (count, steps, 3))
    values[~mask] = 1e4
    return {"values": values.astype("float32"), "padding_mask": mask}


SEQUENCE = {"values": (9, 3), "padding_mask": (9,)}


def test_scaling_of_a_sequence():
    encoder = encoders.Scaling(SEQUENCE, encoders.SequenceEncoder((3,)))
    assert json_round_trip(encoder).get_config() == encoder.get_config()
    x = padded()
    encoder.adapt(x)
    feature = to_numpy(encoder(x))
    assert feature.shape == (40, 3) and np.ptp(feature, axis=0).max() > 1e-3
    inputs = {n: keras.Input(s, name=n) for n, s in SEQUENCE.items()}
    model = keras.Model(inputs, encoder(inputs))
    np.testing.assert_allclose(model.predict(x, verbose=0), feature, atol=1e-5)
    low = encoders.Scaling(SEQUENCE, dtype="mixed_float16")
    low.adapt(x)
    assert np.isfinite(to_numpy(low(x)).astype("float32")).all()


@pytest.mark.one_backend
def test_padding_counts_for_nothing_in_a_sequence():
    x = padded()
    layer = encoders.Scaling(SEQUENCE)
    present = np.arange(40) > 5
    layer.adapt(x, present)
    some = x["values"][present][x["padding_mask"][present]]
    np.testing.assert_allclose(
        to_numpy(layer.front.mean), some.mean(axis=0), rtol=1e-5
    )
    scaled = to_numpy(layer.front(x)["values"])
    assert (scaled[~x["padding_mask"]] == 0).all()
    assert np.abs(scaled[x["padding_mask"]].std(axis=0) - 1).max() < 0.2
    # Each number of a step has a unit of its own, as in a vector.
    wrong = {**x, "values": x["values"][:, :, :2]}
    with pytest.raises(ValueError, match=r"`inputs` .*'values': .* Received: "):
        layer.adapt(wrong)
    with pytest.raises(
        ValueError, match=r"`inputs` .* Received: shape=\(40, 9"
    ):
        layer.adapt(x["values"])


@pytest.mark.one_backend
@pytest.mark.parametrize("method", ["QADMNet", "MICINet", "AIM", "CAL"])
def test_a_sequence_of_raw_values_is_scaled_by_every_method(method, tmp_path):
    x = {"a": X["a"][:40], "s": padded()}
    modalities = {"a": (6,), "s": encoders.Scaling(SEQUENCE, seed=1)}
    model = getattr(keras_mmrel, method)(modalities, 3, seed=0)
    model.compile(run_eagerly=EAGER)
    with warnings.catch_warnings():
        # CAL has a word to say of few samples.
        warnings.filterwarnings("error", "Modalit", UserWarning)
        model.fit(x, Y[:40], verbose=0)
    out = model.predict(x, verbose=0)["logits"]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0)["logits"], out, atol=1e-5
    )
    # What padding holds plays no part.
    x["s"]["values"][~x["s"]["padding_mask"]] = -7
    np.testing.assert_allclose(
        model.predict(x, verbose=0)["logits"], out, atol=1e-4
    )
