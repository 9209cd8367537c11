"""Padding that Keras' own masks mark changes nothing, however one encodes."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mmrel
from keras_mmrel import encoders
from keras_mmrel.layers._auxiliary_block_encoder import AuxiliaryBlockEncoder
from tests.helpers import to_numpy

TOKENS, PADDED = 5, 9


def embedded():
    words = keras.Input((None,), dtype="int32")
    return words, layers.Embedding(20, 8, mask_zero=True)(words)


def attention():
    words, x = embedded()
    for index in range(2):
        # No sum around it: Keras takes the mask from what it has read.
        x = layers.MultiHeadAttention(2, 4, name=f"stage_{index}")(x, x)
    return keras.Model(words, x)


def sequential():
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(20, 8, mask_zero=True),
            layers.Dense(8, activation="relu"),
            layers.Dense(4),
        ]
    )


def blocks(cut):
    return encoders.split_backbone(cut, ["stage_0", "stage_1"])


KINDS = {
    "sequential": sequential,
    "functional": attention,
    "split": lambda: blocks(attention()),
    "pooled": lambda: encoders.PooledEncoder(attention()),
}


def data():
    rng = np.random.default_rng(0)
    words = rng.integers(1, 20, (12, TOKENS))
    words[::2, 3:] = 0
    x = {"words": words.astype("int32"), "v": np.arange(36.0).reshape(12, 3)}
    return x, np.arange(12) % 2


def padded(x):
    more = [[0, 0], [0, PADDED - TOKENS]]
    return {**x, "words": np.pad(x["words"], more)}


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing_in_aim(kind, tmp_path):
    x, y = data()
    model = keras_mmrel.AIM({"words": KINDS[kind](), "v": (3,)}, 2)
    assert len(model.encoders[0].blocks) > 1
    model.compile()
    model.fit(x, y, verbose=0)
    expected = model.predict(x, verbose=0)["logits"]
    found = model.predict(padded(x), verbose=0)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    found = loaded.predict(padded(x), verbose=0)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_padding_changes_nothing_in_blocks_and_pooled_backbones():
    words = data()[0]["words"]
    backbone = attention()
    for encoder in (
        encoders.BlockEncoder(blocks(backbone)),
        encoders.PooledEncoder(backbone),
    ):
        expected = to_numpy(encoder(words))
        found = to_numpy(encoder(padded({"words": words})["words"]))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_padding_changes_nothing_on_the_auxiliary_path():
    words = data()[0]["words"]
    encoder = AuxiliaryBlockEncoder(blocks(attention()), 2, mask_fraction=0.5)
    encoder(words)
    # All samples are gated: chance has no part in it.
    encoder.strength.assign([1.0, 1.0])
    encoder.masks[0].assign([1.0, 0.0] * 4)
    weak = []
    for given in (words, padded({"words": words})["words"]):
        _, first, [mask] = encoder(given, training=True, return_depths=True)
        rows = slice(2, 8)
        weak.append(to_numpy(encoder.auxiliary_path(first[rows], mask[rows])))
    np.testing.assert_allclose(weak[1], weak[0], atol=1e-5)


@pytest.mark.parametrize("positions", [16, 256])
def test_a_split_transformer_is_saved_with_the_model(positions, tmp_path):
    """Keras tries lengths of its own, which need not fit the positions."""
    hub = pytest.importorskip("keras_hub")
    backbone = hub.models.DistilBertBackbone(
        vocabulary_size=20,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=positions,
    )
    cut = [f"transformer_layer_{index}" for index in range(2)]
    blocks = encoders.split_backbone(backbone, cut)
    assert {id(w) for b in blocks for w in b.weights} <= {
        id(w) for w in backbone.weights
    }
    x, y = data()
    words = x.pop("words")
    x["words"] = {"token_ids": words, "padding_mask": (words > 0).astype(int)}
    model = keras_mmrel.AIM({"words": blocks, "v": (3,)}, 2)
    model.compile()
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0)["logits"],
        model.predict(x, verbose=0)["logits"],
        atol=1e-6,
    )


def test_a_graph_that_was_split_can_still_be_saved(tmp_path):
    given = {n: keras.Input((4,), name=n) for n in ("a", "padding_mask")}
    x = layers.Dense(4, name="one")(given["a"])
    x = layers.Multiply(name="two")([x, given["padding_mask"]])
    x = layers.Dense(3, name="three")(x)
    backbone = keras.Model(given, x)
    first, last = encoders.split_backbone(backbone, ["two", "three"])
    inputs = {n: np.ones((2, 4), "float32") for n in given}
    expected = to_numpy(backbone(inputs))
    np.testing.assert_allclose(
        to_numpy(last(first(inputs))["features"]), expected, atol=1e-6
    )
    for block in (first, last):
        copy = type(block).from_config(block.get_config())
        assert len(copy.weights) == len(block.weights)
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    np.testing.assert_allclose(to_numpy(loaded(inputs)), expected, atol=1e-6)
