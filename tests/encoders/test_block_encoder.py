import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mmrel
from keras_mmrel.encoders import BlockEncoder
from keras_mmrel.encoders import ConvEncoder
from keras_mmrel.encoders import MLPEncoder
from keras_mmrel.encoders import ResidualBlock
from keras_mmrel.encoders import split_backbone
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 8, 8, 2)).astype("float32")


def backbone():
    """Two stages; a skip connection inside the first one."""
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    y = layers.Conv2D(8, 3, padding="same", name="inside")(x)
    x = layers.Add(name="one")([x, y])
    x = layers.Conv2D(16, 3, name="two")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D(name="head")(x))


def test_block_encoder_averages_the_last_map():
    blocks = [layers.Conv2D(8, 3, activation="relu"), layers.Conv2D(16, 3)]
    encoder = BlockEncoder(blocks)
    run_layer_checks(encoder, X, output_shapes=(3, 16))
    expected = to_numpy(blocks[1](blocks[0](X))).mean(axis=(1, 2))
    np.testing.assert_allclose(to_numpy(encoder(X)), expected, atol=1e-5)


def test_a_list_of_layers_is_an_encoder_of_any_model():
    shapes = {"a": [layers.Dense(8, "relu"), layers.Dense(4)], "b": (5,)}
    model = keras_mmrel.ConcatFusion(shapes, 3)
    x = {"a": np.ones((4, 6), "float32"), "b": np.ones((4, 5), "float32")}
    assert model(x)["logits"].shape == (4, 3)
    assert isinstance(model.encoders[0], BlockEncoder)
    config = keras.saving.serialize_keras_object(model)
    copy = keras.saving.deserialize_keras_object(config)
    assert [len(e.blocks) for e in copy.encoders] == [2, 1]


@pytest.mark.parametrize("blocks", [[], "dense", [layers.Dense, 3], None])
def test_block_encoder_refuses_what_is_no_list_of_layers(blocks):
    with pytest.raises(ValueError, match="`blocks` must be a non-empty list"):
        BlockEncoder(blocks)


def test_residual_block():
    run_layer_checks(
        ResidualBlock(8, strides=2, groups=4), X, output_shapes=(3, 4, 4, 8)
    )
    block = ResidualBlock(8, groups=2)
    assert block(X[..., 0]).shape == (3, 8, 8, 8)
    assert block.compute_output_shape((None, 8, 8)) == (None, 8, 8, 8)


def test_residual_block_adds_a_projection_of_its_input():
    block = ResidualBlock(8)
    block.build((None, 8, 8, 2))
    # The last normalisation scales the convolutions away.
    block.main_path[-1].gamma.assign(np.zeros(8))
    kernel = to_numpy(block.shortcut.kernel)[0, 0]
    np.testing.assert_allclose(
        to_numpy(block(X)), np.maximum(X @ kernel, 0), atol=1e-5
    )


def test_the_projection_is_a_convolution_with_the_same_strides():
    block = ResidualBlock(8, strides=2)
    x = RNG.normal(size=(2, 5, 6, 8)).astype("float32")
    block.build(x.shape)
    block.main_path[-1].gamma.assign(np.zeros(8))
    expected = ops.relu(ops.conv(x, block.shortcut.kernel, 2, "same"))
    np.testing.assert_allclose(
        to_numpy(block(x)), to_numpy(expected), atol=1e-5
    )


@pytest.mark.parametrize(
    "encoder, x",
    [
        (ConvEncoder((8, 16), groups=4), X),
        (MLPEncoder((8, 6), dropout=0.5), X[:, 0, :, 0]),
    ],
)
def test_encoders_are_their_blocks_and_the_mean_over_positions(encoder, x):
    expected = to_numpy(encoder(x))
    actual = to_numpy(BlockEncoder(encoder.blocks)(x))
    assert len(encoder.blocks) == 2
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_blocks_of_a_backbone_make_up_the_backbone():
    model = backbone()
    blocks = split_backbone(model, ["stem", "one", "two"])
    assert [b.output_shape[-1] for b in blocks] == [8, 8, 16]
    expected = to_numpy(model(X))
    np.testing.assert_allclose(
        to_numpy(BlockEncoder(blocks)(X)), expected, atol=1e-5
    )
    # The same weights, not copies.
    shared = {id(v) for block in blocks for v in block.weights}
    assert shared == {id(v) for v in model.weights}
    # What comes after the last name is left out.
    assert len(split_backbone(model, ["one"])) == 1


def test_blocks_of_a_backbone_survive_saving(tmp_path):
    encoder = BlockEncoder(split_backbone(backbone(), ["one", "two"]))
    model = keras.Sequential([keras.Input((8, 8, 2)), encoder])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.layers[0].blocks) == 2
    np.testing.assert_allclose(
        to_numpy(loaded(X)), to_numpy(model(X)), atol=1e-6
    )


def test_a_cut_through_a_skip_connection_is_refused():
    with pytest.raises(ValueError, match="through one tensor .* 'one'"):
        split_backbone(backbone(), ["inside", "one", "two"])


def test_a_name_that_is_no_layer_is_refused():
    with pytest.raises(ValueError, match="Received: 'three'"):
        split_backbone(backbone(), ["one", "three"])
