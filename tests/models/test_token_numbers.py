"""Numbers of tokens that no vocabulary has are named, wherever they come."""

import gc

import keras
import numpy as np
import pytest
from keras import layers

import keras_mmrel
from keras_mmrel import encoders
from tests.helpers import EAGER
from tests.helpers import to_numpy
from tests.helpers import vectors

X, Y = vectors(shapes={"a": (6,)})
IDS = np.random.default_rng(0).integers(0, 9, (48, 5)).astype("int32")
EXPECTED = "Modality 'text' must hold numbers from 0 to 8"


@pytest.fixture(autouse=True)
def tidy():
    yield
    gc.collect()


def backbone():
    names = ("token_ids", "padding_mask")
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
    embedded = layers.Embedding(9, 4)(inputs["token_ids"])
    return keras.Model(inputs, embedded)


def flat():
    """An encoder of a bare tensor of tokens."""
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4)(keras.ops.cast(tokens, "int32"))
    return encoders.PooledEncoder(keras.Model(tokens, x))


def made():
    text = encoders.TextEncoder(backbone(), 5)
    model = keras_mmrel.LateFusion({"text": text, "a": (6,)}, 3, seed=0)
    model.compile(run_eagerly=EAGER)
    return model


def data(wrong=None, row=40, mask=False):
    ids = IDS.copy()
    if wrong is not None:
        ids[row, 1:3] = wrong
    x = {"text": {"token_ids": ids, "padding_mask": np.ones((48, 5))}, **X}
    return {**x, "modality_mask": np.ones((48, 2))} if mask else x


def parts(x):
    for start in (0, 16, 32):
        rows = slice(start, start + 16)
        yield keras.tree.map_structure(lambda v, rows=rows: v[rows], x), Y[rows]


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.parts = list(parts(x))

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.parts[index]


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.mark.parametrize("wrong", [9, -1])
def test_arrays_are_refused_by_the_size_of_the_vocabulary(model, wrong):
    x = data(wrong)
    expected = f"{EXPECTED} in 'token_ids', .* 2 others, such as {wrong}$"
    for run in (
        lambda: model.fit(x, Y, verbose=0),
        lambda: model.evaluate(x, Y, verbose=0),
        lambda: model.predict(x, verbose=0),
        lambda: model.train_on_batch(x, Y),
        lambda: model(x),
    ):
        with pytest.raises(ValueError, match=expected):
            run()


def test_what_is_missing_may_hold_any_number(model):
    x = data(99, mask=True)
    x["modality_mask"][40, 0] = 0
    assert np.isfinite(model.predict(x, verbose=0)["logits"]).all()


def test_batches_are_refused_and_harm_no_weight(model):
    for wrong, mask in ((9, False), (-1, True)):
        for source in (Batches, parts):
            x = data(wrong, mask=mask)
            for run in (model.fit, model.evaluate, model.predict):
                if run == model.predict and source is parts:
                    continue
                with pytest.raises(ValueError, match=EXPECTED):
                    run(source(x), verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.one_backend
def test_a_pipeline_of_tensorflow_is_refused_after_its_epoch():
    # No batch of it is seen outside of the step.
    tensorflow = pytest.importorskip("tensorflow")
    model = made()
    whole = tensorflow.data.Dataset.from_tensor_slices((data(9), Y)).batch(16)
    for run in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=f"{EXPECTED} .* 2 other values"):
            run(whole, verbose=0)
    with pytest.raises(ValueError, match=f"{EXPECTED} .* the first at 40"):
        model.predict(whole.map(lambda x, y: x), verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_an_encoder_alone_refuses_them():
    ids = np.array([[1, 2, 3, 9, 4]])
    x = {"token_ids": ids, "padding_mask": np.ones((1, 5))}
    text = encoders.TextEncoder(backbone(), 5)
    blocks = encoders.BlockEncoder(text.blocks)
    for encoder, given in (
        (text, x),
        (blocks, x),
        (encoders.PooledEncoder(backbone()), x),
        (flat(), ids),
        (encoders.BlockEncoder([layers.Embedding(9, 4)]), ids),
    ):
        with pytest.raises(ValueError, match="9 of its vocabulary.* as 9$"):
            encoder(given)
        fine = keras.tree.map_structure(lambda v: v % 9, given)
        assert np.isfinite(to_numpy(encoder(fine))).all()


class Own(layers.Layer):
    """An encoder of somebody else, which says what it knows."""

    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(9, 4)
        self.vocabularies = {"": 9}

    def call(self, tokens):
        return keras.ops.mean(self.embedding(tokens), axis=1)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "encoder",
    [
        Own,
        flat,
        lambda: encoders.BlockEncoder([layers.Embedding(9, 4)]),
        lambda: keras.Sequential(
            [layers.Embedding(9, 4), layers.GlobalAveragePooling1D()]
        ),
    ],
)
def test_a_modality_of_one_tensor_has_a_vocabulary_too(encoder):
    model = keras_mmrel.LateFusion({"text": encoder(), "a": (6,)}, 3)
    model.compile(run_eagerly=True)
    model.fit({"text": IDS, **X}, Y, verbose=0)
    with pytest.raises(ValueError, match=f"{EXPECTED}, the 9 .* such as -2$"):
        model.predict({"text": IDS - 3 * (IDS == 1), **X}, verbose=0)


@pytest.mark.one_backend
@pytest.mark.parametrize("value", [[[1, 2]], "a", None, np.array([["a"]])])
def test_what_holds_no_numbers_is_refused_as_ever(value):
    with pytest.raises(ValueError, match="`inputs` must (hold|be)"):
        flat()(value)


@pytest.mark.one_backend
def test_segments_have_one_and_numbers_that_are_not_looked_up_have_none():
    from tests.encoders.backbones import bert
    from tests.encoders.backbones import whisper

    encoder = encoders.TextEncoder(bert(), 5, segment_ids=True)
    assert encoder.vocabularies == {"token_ids": 40, "segment_ids": 2}
    assert encoders.TextEncoder(bert(), 5).vocabularies == {"token_ids": 40}
    assert encoders.AudioEncoder(whisper(), (16, 8)).vocabularies == {}
    positions = keras.Sequential([layers.Dense(3), layers.Embedding(4, 2)])
    assert encoders.PooledEncoder(positions).vocabularies == {}


@pytest.mark.one_backend
@pytest.mark.parametrize("pooled", [False, True])
def test_a_backbone_of_keras_hub_has_the_vocabulary_of_its_tokens(pooled):
    from tests.encoders.backbones import distilbert

    # It has its token embedding as an attribute, which an embedding has not.
    encoder = (
        encoders.PooledEncoder(distilbert())
        if pooled
        else encoders.TextEncoder(distilbert(), 5)
    )
    assert encoder.vocabularies == {"token_ids": 40}
    if pooled:
        return
    model = keras_mmrel.LateFusion({"text": encoder}, 3)
    x = {
        "token_ids": np.array([[1, 2, 77, 0, 0]] * 6),
        "padding_mask": np.array([[1, 1, 1, 0, 0]] * 6),
    }
    model.compile()
    with pytest.raises(ValueError, match="numbers from 0 to 39.*such as 77"):
        model.fit({"text": x}, np.arange(6) % 3, verbose=0)
