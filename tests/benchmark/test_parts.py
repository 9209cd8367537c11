"""Modalities of several arrays: padded series and texts of a table."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import ops

from keras_mmrel import benchmark
from keras_mmrel import corruptions
from keras_mmrel import media
from keras_mmrel.benchmark import Dataset
from keras_mmrel.benchmark._encoders import modality_specs
from tests.benchmark.helpers import arrays
from tests.benchmark.helpers import lines

pytestmark = pytest.mark.slow_on("jax", "tensorflow")

SAMPLES = 60


class Tokens(keras.layers.Layer):
    """Mean of embedded tokens, of those that are none of the padding."""

    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(9, 4)

    def build(self, input_shape):
        self.embedding.build(input_shape["token_ids"])

    def call(self, inputs):
        there = ops.cast(inputs["padding_mask"], "float32")[..., None]
        tokens = ops.cast(inputs["token_ids"], "int32")
        total = ops.sum(self.embedding(tokens) * there, axis=1)
        return total / (ops.sum(there, axis=1) + 1e-6)

    def compute_output_shape(self, input_shape):
        return (*input_shape["token_ids"][:1], 4)


def encoder(name, shape):
    return Tokens() if name == "text" else shape


def data():
    """Vectors, series of 3 to 6 steps padded to 6, texts of 2 to 5 tokens."""
    rng = np.random.default_rng(0)
    x, y = arrays(samples=SAMPLES)
    steps = np.arange(6) < rng.integers(3, 7, (SAMPLES, 1))
    words = np.arange(5) < rng.integers(2, 6, (SAMPLES, 1))
    values = 5 + y[:, None, None] + rng.normal(size=(SAMPLES, 6, 2))
    tokens = rng.integers(1, 9, (SAMPLES, 5)) * words
    return {
        "a": x["a"],
        "gait": {
            "values": (values * steps[..., None]).astype("float32"),
            "padding_mask": steps,
        },
        "text": {"token_ids": tokens, "padding_mask": words},
    }, y


def test_floats_of_the_steps_that_are_there_are_scaled():
    x, y = data()
    samples = Dataset(lambda: (x, y)).load("d")
    (train, _), (test, _) = samples.parts(0)
    rows = samples.rows(0)
    for part, chosen in zip((train, test), rows, strict=True):
        there = x["gait"]["padding_mask"][chosen]
        np.testing.assert_array_equal(part["gait"]["padding_mask"], there)
        assert part["gait"]["padding_mask"].dtype == bool
        assert (part["gait"]["values"][~there] == 0).all()
        for name in ("token_ids", "padding_mask"):
            np.testing.assert_array_equal(
                part["text"][name], x["text"][name][chosen]
            )
    steps = train["gait"]["values"][train["gait"]["padding_mask"]]
    # Of all 6 steps padding would be the minimum.
    np.testing.assert_allclose(steps.min(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(steps.max(axis=0), 1, atol=1e-6)
    kept = Dataset(lambda: (x, y), scale="none").load("d").parts(0)[0][0]
    np.testing.assert_array_equal(
        kept["gait"]["values"], x["gait"]["values"][rows[0]]
    )


def test_floats_without_padding_are_scaled_as_one_array_is():
    x, y = data()
    parts = {"pair": {"left": x["a"], "right": x["a"][:, :2]}}
    samples = Dataset(lambda: (parts, y)).load("d")
    alone = Dataset(lambda: ({"a": x["a"]}, y)).load("d")
    np.testing.assert_array_equal(
        samples.parts(0)[0][0]["pair"]["left"], alone.parts(0)[0][0]["a"]
    )


def test_a_missing_series_says_nothing_about_a_range():
    x, y = data()
    mask = np.ones((SAMPLES, 3), "float32")
    mask[:30:2, 1] = 0
    x["gait"]["values"][mask[:, 1] == 0] = np.nan
    samples = Dataset(lambda: ({**x, "modality_mask": mask}, y)).load("d")
    (train, _), _ = samples.parts(0)
    there = train["gait"]["padding_mask"] & (
        train["modality_mask"][:, 1, None] > 0
    )
    steps = train["gait"]["values"][there]
    np.testing.assert_allclose(steps.min(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(steps.max(axis=0), 1, atol=1e-6)


def test_the_checksum_knows_every_array():
    x, y = data()
    first = Dataset(lambda: (x, y), scale="none").load("d").fingerprint
    x["text"]["padding_mask"][7, 4] ^= True
    assert Dataset(lambda: (x, y), scale="none").load("d").fingerprint != first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x["gait"].update(values=x["gait"]["values"][:9]),
            r"(?s)gait/values.*\(9, 6, 2\)",
        ),
        (
            lambda x: x["gait"]["values"].__setitem__((3, 0), np.nan),
            "modality 'gait/values'.*the first is row 3",
        ),
        (
            lambda x: x["text"].update(token_ids=np.full((60, 5), "ab")),
            "numbers in modality 'text/token_ids'",
        ),
        (lambda x: x.update(text={}), "the same arrays for 'text'"),
    ],
)
def test_what_is_wrong_with_a_part_is_said(change, message):
    x, y = data()
    change(x)
    with pytest.raises(ValueError, match=message):
        Dataset(lambda: (x, y)).load("d")


def test_both_parts_hold_the_same_arrays():
    (x, y), (other, _) = data(), data()
    del other["text"]["padding_mask"]
    with pytest.raises(ValueError, match="the same arrays for 'text'"):
        Dataset(lambda: ((x, y), (other, y))).load("d")


def test_a_part_is_not_standardised_inside_a_model():
    x, _ = data()
    with pytest.raises(ValueError, match="`inputs` must be 'raw'"):
        modality_specs({"gait": x["gait"]}, None, "standardized")
    assert modality_specs(
        {"gait": x["gait"]}, {"hidden_units": [3]}, "raw"
    ) == {"gait": {"values": (6, 2), "padding_mask": (6,)}}


def plain(modalities, num_classes):
    """A Keras model that knows nothing of masks, noise and quality."""
    series = keras.Input((6, 2), name="values")
    mask = keras.Input((6,), name="padding_mask", dtype="bool")
    vector = keras.Input((4,), name="a")
    inputs = {"a": vector, "gait": {"values": series, "padding_mask": mask}}
    there = ops.cast(mask, "float32")[..., None]
    features = ops.concatenate([ops.sum(series * there, 1), vector], axis=1)
    return keras.Model(inputs, keras.layers.Dense(num_classes)(features))


def test_a_comparison_of_series_and_texts_runs(tmp_path):
    x, y = data()
    comparison = benchmark.Comparison(
        title="parts",
        datasets={"parts": Dataset(lambda: (x, y))},
        methods={
            "late": {"model": "LateFusion", "encoder": encoder},
            "range": {
                "model": "ConcatFusion",
                "encoder": encoder,
                "quality": "RangeControl",
            },
            "gait": {"model": "ConcatFusion", "modalities": ["gait"]},
            "plain": benchmark.Method(
                plain, modalities=["a", "gait"], probes=[]
            ),
            "plain, checked": benchmark.Method(
                plain,
                modalities=["a", "gait"],
                quality="RangeControl",
                probes=[],
            ),
        },
        regimes={"clean": {}, "noisy": {"noise_probability": 0.5}},
        seeds=1,
        training={"epochs": 2, "batch_size": 16, "whole_batches": True},
        tuning={
            "grid": {"learning_rate": [1e-3, 1e-2]},
            "fraction": 0.3,
            "repeats": 1,
        },
        evaluation={
            "corruptions": {
                "noise": corruptions.GaussianNoise(1.0, "a"),
                "words": corruptions.TokenReplacement(0.5, "text", token=2),
                "missing": corruptions.MissingModality(1.0, "one"),
                "unaligned": corruptions.UnalignedSamples(0.5, "one"),
                "conflict": corruptions.ModalityConflict(0.5, "one"),
            },
            "probes": ["modality_accuracy", "linear_probe"],
        },
        baseline="late",
    )
    comparison.run(tmp_path, verbose=0)
    page = comparison.report(tmp_path)[0].read_text()
    assert "conflict" in page and "not finished" not in page
    runs = [line for line in lines(tmp_path) if line["kind"] == "run"]
    assert len(runs) == 10
    for run in runs:
        accuracy = run["scores"]["accuracy"]
        assert len(accuracy) == 6 and np.isfinite(accuracy).all()
        assert bool(run["probes"]) != run["method"].startswith("plain")


def test_a_table_of_texts_and_series_is_a_data_set(tmp_path):
    _, y = data()
    rng = np.random.default_rng(1)
    for row in range(SAMPLES):
        steps = rng.normal(size=(3 + row % 4, 2)) + y[row]
        np.save(tmp_path / f"{row}.npy", steps.astype("float32"))
    frame = pd.DataFrame(
        {
            "gait": [f"{row}.npy" for row in range(SAMPLES)],
            "words": ["up we go" if c else "down" for c in y],
            "label": y,
        }
    )

    def tokenizer(text):
        return [1 + len(word) for word in text.split()]

    table = media.MediaTable(
        frame,
        {
            "gait": media.Series("gait", features=2, length=6),
            "text": media.Text("words", tokenizer=tokenizer, length=5),
        },
        label="label",
        root=tmp_path,
    )
    samples = Dataset(lambda: table).load("table")
    assert list(samples.x["text"]) == ["token_ids", "padding_mask"]
    (train, _), (test, _) = samples.parts(0)
    model = benchmark.Method("LateFusion", encoder=encoder).make(
        train, samples.num_classes, {}, seed=0
    )
    logits = model.predict(test, verbose=0)["logits"]
    assert logits.shape == (18, 2) and np.isfinite(logits).all()
