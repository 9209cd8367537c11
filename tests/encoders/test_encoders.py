import keras
import numpy as np
import pytest

from keras_mmrel.encoders import ConvEncoder
from keras_mmrel.encoders import MLPEncoder
from keras_mmrel.encoders import PooledEncoder
from tests.helpers import json_round_trip
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy

RNG = np.random.default_rng(0)


def test_mlp_encoder():
    run_layer_checks(
        MLPEncoder((8, 5), dropout=0.1, activation="gelu"),
        RNG.normal(size=(4, 7)).astype("float32"),
        output_shapes=(4, 5),
    )


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("shape", [(9, 8, 3), (16, 12)])
def test_conv_encoder_takes_images_and_spectrograms(shape):
    run_layer_checks(
        ConvEncoder((8, 16), groups=4),
        RNG.normal(size=(3, *shape)).astype("float32"),
        output_shapes=(3, 16),
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_conv_encoder_feature_depends_on_its_own_sample_alone():
    encoder = ConvEncoder((4, 6))
    x = RNG.normal(size=(5, 8, 8, 1)).astype("float32")
    together = to_numpy(encoder(x, training=True))
    alone = to_numpy(encoder(x[:1], training=True))
    np.testing.assert_allclose(alone, together[:1], atol=1e-5)


def test_pooled_encoder_averages_maps_and_token_sequences():
    backbone = keras.Sequential(
        [keras.Input((6, 6, 2)), keras.layers.Conv2D(8, 3)]
    )
    x = RNG.normal(size=(2, 6, 6, 2)).astype("float32")
    run_layer_checks(PooledEncoder(backbone), x, output_shapes=(2, 8))
    expected = to_numpy(backbone(x)).mean(axis=(1, 2))
    np.testing.assert_allclose(
        to_numpy(PooledEncoder(backbone)(x)), expected, atol=1e-5
    )


def attention_backbone():
    """Tokens that see each other, but no padding."""
    tokens = keras.Input((None,), dtype="int32", name="token_ids")
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    x = keras.layers.Embedding(20, 4)(tokens)
    attention = keras.layers.MultiHeadAttention(2, 2)
    x = attention(x, x, attention_mask=keras.ops.expand_dims(mask, 1))
    return keras.Model({"token_ids": tokens, "padding_mask": mask}, x)


def embedding_backbone():
    layers = [keras.layers.Embedding(20, 4, mask_zero=True)]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers])


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("make", [attention_backbone, embedding_backbone])
def test_padding_changes_no_pooled_feature(make):
    encoder = PooledEncoder(make())

    def feature(tokens, length):
        ids = np.zeros((len(tokens), length), "int32")
        ids[:, : tokens.shape[1]] = tokens
        x = ids
        if make is attention_backbone:
            x = {"token_ids": ids, "padding_mask": (ids > 0).astype("int32")}
        return to_numpy(encoder(x))

    tokens = RNG.integers(1, 20, size=(3, 8))
    short, long = feature(tokens, 8), feature(tokens, 64)
    np.testing.assert_allclose(long, short, atol=1e-5)
    assert np.abs(short).max() > 1e-3
    # Nor is there a NaN where all is padding.
    assert not feature(np.zeros((2, 8), "int32"), 8).any()


def test_pooled_encoder_takes_a_named_output():
    inputs = keras.Input((5, 3))
    outputs = {"sequence": keras.layers.Dense(4)(inputs)}
    backbone = keras.Model(inputs, outputs)
    x = np.ones((2, 5, 3), "float32")
    assert PooledEncoder(backbone, "sequence")(x).shape == (2, 4)
    with pytest.raises(ValueError, match="output_key='pooled'"):
        PooledEncoder(backbone, "pooled")(x)


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda seed: MLPEncoder((8,), 0.5, seed=seed), (4, 6)),
        (lambda seed: ConvEncoder((8,), dropout=0.5, seed=seed), (4, 6, 6, 1)),
    ],
)
def test_a_seed_repeats_the_dropout(make, shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")

    def dropped(seed):
        encoder = make(seed)
        assert json_round_trip(encoder).seed == seed
        encoder.build(shape)
        for index, weight in enumerate(encoder.trainable_weights):
            rng = np.random.default_rng(index)
            weight.assign(rng.normal(size=weight.shape))
        return to_numpy(encoder(x, training=True))

    np.testing.assert_array_equal(dropped(3), dropped(3))
    assert (dropped(3) != dropped(4)).any()
