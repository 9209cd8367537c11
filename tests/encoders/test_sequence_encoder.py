"""Sequences of any length: padding takes no part, from file to model."""

import keras
import numpy as np
import pandas as pd
import pytest

import keras_mmrel
from keras_mmrel import encoders
from keras_mmrel import media
from tests.helpers import EAGER
from tests.helpers import json_round_trip
from tests.helpers import to_numpy

RNG = np.random.default_rng(0)
SHAPES = {"values": (12, 3), "padding_mask": (12,)}


def sequences(samples, length=12, seed=0):
    """Random walks of 3 to 9 steps, padded with garbage."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(3, 10, samples)
    values = rng.normal(size=(samples, 9, 3)).cumsum(axis=1).astype("float32")
    padded = np.full((samples, length, 3), 1e4, "float32")
    padded[:, :9] = values
    mask = np.arange(length) < steps[:, None]
    return {"values": padded, "padding_mask": mask}


def test_sequence_encoder(tmp_path):
    encoder = encoders.SequenceEncoder((4, 5), 3, dropout=0.2, seed=1)
    assert json_round_trip(encoder).get_config() == encoder.get_config()
    x = sequences(4)
    feature = to_numpy(encoder(x))
    assert feature.shape == (4, 5) and np.ptp(feature, axis=0).max() > 1e-3
    inputs = {n: keras.Input(s, name=n) for n, s in SHAPES.items()}
    model = keras.Model(inputs, encoder(inputs))
    np.testing.assert_allclose(model.predict(x, verbose=0), feature, atol=1e-5)
    low = encoders.SequenceEncoder((4,), dtype="mixed_float16")(x)
    assert np.isfinite(to_numpy(low).astype("float32")).all()
    nothing = {**x, "padding_mask": np.zeros((4, 12))}
    assert not to_numpy(encoder(nothing)).any()


@pytest.mark.slow_on("jax", "tensorflow")
def test_padding_changes_no_feature():
    encoder = encoders.SequenceEncoder((4, 5))
    short = to_numpy(encoder(sequences(5, 9)))
    np.testing.assert_allclose(
        to_numpy(encoder(sequences(5, 40))), short, atol=1e-5
    )


@pytest.mark.one_backend
def test_what_is_no_padded_sequence_is_named():
    with pytest.raises(ValueError, match="`inputs` must be a dict of values"):
        encoders.SequenceEncoder()({"values": np.ones((2, 3, 4))})
    tokens = {"token_ids": (5,), "padding_mask": (5,)}
    other = {**SHAPES, "padding_mask": (11,)}
    more = {**SHAPES, "more": (5, 3)}
    for shapes in (tokens, {"values": (5, 3)}, more, other):
        for method in ("LateFusion", "QADMNet"):
            with pytest.raises(ValueError, match="to get a default encoder"):
                getattr(keras_mmrel, method)({"a": shapes, "b": (3,)}, 2)
    with pytest.raises(ValueError, match="a dict of such shapes"):
        keras_mmrel.LateFusion({"a": {"values": "b"}, "b": (3,)}, 2)


@pytest.mark.parametrize(
    "shapes, expected",
    [
        (
            (9, 3),
            r"a dict of values and 'padding_mask'. Received: shape=\(2, 9",
        ),
        ({"v": (9, 3), "padding_mask": (8,)}, r"of shape \(batch, time\). Rec"),
        ({"v": (9, 3), "padding_mask": (9, 1)}, "values 'v' of shape"),
        ({"v": (9,), "padding_mask": (9,)}, "values 'v' of shape"),
    ],
)
def test_a_mask_of_another_length_is_named_by_its_shape(shapes, expected):
    def x(make):
        if isinstance(shapes, tuple):
            return make((2, *shapes))
        return {name: make((2, *shape)) for name, shape in shapes.items()}

    built = encoders.SequenceEncoder((4,))
    built({"v": np.ones((2, 9, 3)), "padding_mask": np.ones((2, 9))})
    for encoder in (encoders.SequenceEncoder((4,)), built):
        for run in (
            lambda e=encoder: e(x(np.ones)),
            lambda e=encoder: e.compute_output_shape(x(tuple)),
            lambda e=encoder: e(x(keras.KerasTensor)),
        ):
            with pytest.raises(ValueError, match=expected) as error:
                run()
            assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "method",
    [
        "LateFusion",
        *(
            pytest.param(m, marks=pytest.mark.slow_on("jax", "tensorflow"))
            for m in ("QADMNet", "MICINet", "AIM", "CAL", "ReliableFusion")
        ),
    ],
)
def test_every_method_takes_sequences(method, tmp_path):
    x = {"gait": sequences(24), "b": RNG.normal(size=(24, 3))}
    model = getattr(keras_mmrel, method)({"gait": SHAPES, "b": (3,)}, 2, seed=0)
    model.compile(run_eagerly=EAGER)
    model.fit(x, np.arange(24) % 2, batch_size=12, epochs=2, verbose=0)
    out = model.predict(x, verbose=0)["logits"]
    other = {**x, "gait": dict(x["gait"])}
    other["gait"]["values"] = np.where(
        x["gait"]["padding_mask"][..., None], x["gait"]["values"], -7.0
    ).astype("float32")
    np.testing.assert_allclose(
        model.predict(other, verbose=0)["logits"], out, atol=1e-5
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0)["logits"], out, atol=1e-5
    )


@pytest.mark.one_backend
def test_series_are_read_cut_and_padded(tmp_path):
    lengths = [3, 5, 9]
    walks = [RNG.normal(size=(n, 2)) for n in lengths]
    for index, walk in enumerate(walks):
        np.save(tmp_path / f"{index}.npy", walk)
    np.save(tmp_path / "wide.npy", np.ones((3, 4)))
    table = pd.DataFrame(
        {
            "gait": ["0.npy", "1.npy", "2.npy", None],
            "age": [1.0, 2.0, 3.0, 4.0],
            "y": [0, 1, 0, 1],
        }
    )
    modalities = {
        "gait": media.Series("gait", features=2, length=6),
        "age": media.Tabular(["age"]),
    }
    data = media.MediaTable(
        table, modalities, label="y", root=tmp_path, cache=tmp_path / "cache"
    )
    for _ in range(2):
        x, _ = data.arrays()
        counts = x["gait"]["padding_mask"].sum(axis=1)
        assert counts.tolist() == [3, 5, 6, 0]
        for row, walk in enumerate(walks):
            count = min(len(walk), 6)
            np.testing.assert_allclose(
                x["gait"]["values"][row, :count], walk[:6], rtol=1e-6
            )
            assert not x["gait"]["values"][row, count:].any()
        assert x["modality_mask"][:, 0].tolist() == [1, 1, 1, 0]
    model = keras_mmrel.LateFusion(data.shapes, 2)
    assert isinstance(model.encoders[0], encoders.SequenceEncoder)
    model.compile(run_eagerly=True)
    model.fit(data, verbose=0)
    np.save(tmp_path / "none.npy", np.ones((0, 2)))
    empty = {"table": table.assign(gait=["none.npy", *table["gait"][1:]])}
    empty |= {"modalities": modalities, "label": "y", "root": tmp_path}
    with pytest.raises(ValueError, match="none.npy': a sequence of no steps"):
        media.MediaTable(**empty).arrays()
    counted = media.MediaTable(**empty, on_error="missing")
    assert counted.arrays()[0]["modality_mask"][:, 0].tolist() == [0, 1, 1, 0]
    assert [row for row, *_ in counted.unreadable] == [0]
    bad = table.assign(gait="wide.npy")
    with pytest.raises(ValueError, match=r"shape \(3, 4\), not \(any, 2\)"):
        media.MediaTable(
            bad,
            {**modalities, "gait": media.Series("gait", features=2, length=6)},
            label="y",
            root=tmp_path,
        ).arrays()
