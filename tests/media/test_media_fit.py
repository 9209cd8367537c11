"""A model is trained from a table of files, on every backend."""

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

import keras_mmrel
from keras_mmrel import media
from tests.helpers import EAGER
from tests.media.files import RATE
from tests.media.files import tone
from tests.media.files import write_wav

CLASSES = ["high", "low"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Bright pictures with high tones, dark ones with low ones."""
    folder = tmp_path_factory.mktemp("files")
    rows = []
    for index in range(24):
        label = CLASSES[index % 2]
        bright = label == "high"
        sound = tone(0.05, 1200 if bright else 300) * (0.5 + index / 48)
        write_wav(folder / f"{index}.wav", sound)
        grey = np.full((6, 6), 200 * bright + index, "uint8")
        Pillow.fromarray(grey).save(folder / f"{index}.png")
        rows.append((f"{index}.wav", f"{index}.png", label, label[0] * index))
    frame = pd.DataFrame(rows, columns=["wav", "png", "label", "text"])
    frame.loc[[3, 8], "wav"] = None
    frame.loc[5, "png"] = "broken.png"
    (folder / "broken.png").write_bytes(b"broken")
    return frame.assign(folder=str(folder))


def power(values):
    """Eight bands of a spectrum."""
    return np.abs(np.fft.rfft(values)[1:161]).reshape(8, 20).mean(axis=1)


def make(table, **options):
    modalities = {
        "sound": media.Audio(
            "wav", sample_rate=RATE, seconds=0.04, transform=power
        ),
        "image": media.Image("png", size=6, channels=1),
        "text": media.Text("text", tokenizer=str.encode, length=4),
    }
    options = {"seed": 1, "on_error": "missing", "batch_size": 8, **options}
    return media.MediaTable(
        table, modalities, "label", root=table["folder"][0], **options
    )


class Letters(keras.layers.Layer):
    """The mean embedding of the tokens that are there."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = keras.layers.Embedding(128, 4)

    def build(self, shapes):
        self.embedding.build(shapes["token_ids"])

    def call(self, inputs):
        vectors = self.embedding(inputs["token_ids"])
        there = keras.ops.cast(inputs["padding_mask"], vectors.dtype)[..., None]
        count = keras.ops.maximum(keras.ops.sum(there, axis=1), 1)
        return keras.ops.sum(vectors * there, axis=1) / count


def trained(table, epochs=1, validated=False, **options):
    keras.utils.set_random_seed(3)
    data = make(table, **options)
    shapes = {**data.shapes, "text": Letters()}
    model = keras_mmrel.ConcatFusion(shapes, data.num_classes, seed=0)
    model.compile(keras.optimizers.Adam(0.02), run_eagerly=EAGER)
    # Keras' own order of the batches depends on how they are drawn.
    history = model.fit(
        data,
        epochs=epochs,
        shuffle=False,
        validation_data=data.like(table) if validated else None,
        verbose=0,
    )
    return model, data, history.history


@pytest.mark.slow_on("tensorflow")
def test_a_table_of_files_becomes_a_model_that_knows_its_classes(
    table, tmp_path
):
    model, data, history = trained(
        table, epochs=5, validated=True, shuffle=True, workers=2
    )
    assert data.epoch >= 5 and data.missing["sound"] == 2
    assert [entry[:2] for entry in data.unreadable] == [(5, "png")]
    test = data.like(table)
    scores = model.evaluate(test, verbose=0, return_dict=True)
    assert scores["accuracy"] > 0.9
    assert scores["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)
    out = model.predict(test, verbose=0)
    lost = np.ones((24, 3))
    lost[[3, 8], 0] = lost[5, 1] = lost[0, 2] = 0
    assert (out["modality_mask"] == lost).all()
    # The same rows in memory.
    x, y = test.arrays()
    again = model.predict(x, batch_size=8, verbose=0)
    np.testing.assert_allclose(again["logits"], out["logits"], atol=1e-5)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.9

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(
        tmp_path / "model.keras", custom_objects={"Letters": Letters}
    )
    assert loaded.class_names == CLASSES
    with pytest.raises(ValueError, match="the classes of the model"):
        loaded.evaluate(data.like(table, class_names=CLASSES[::-1]), verbose=0)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.filterwarnings("ignore:os.fork")
def test_threads_and_processes_train_the_same_model(table):
    answers = []
    for options in (
        {"workers": 0},
        {"workers": 2},
        {"workers": 2, "use_multiprocessing": True},
    ):
        model, data, _ = trained(table, epochs=2, shuffle=True, **options)
        x, _ = data.like(table).arrays()
        answers.append(model.predict(x, verbose=0)["logits"])
        assert [entry[0] for entry in data.unreadable] == [5]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-5)
    np.testing.assert_allclose(answers[2], answers[0], atol=1e-5)
