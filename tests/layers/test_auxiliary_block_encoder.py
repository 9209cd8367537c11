import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_mmrel.encoders import BlockEncoder
from keras_mmrel.layers._auxiliary_block_encoder import AuxiliaryBlockEncoder
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy

X = np.random.default_rng(0).normal(size=(6, 8, 8, 2)).astype("float32")
Y = np.random.default_rng(1).normal(size=(6, 8)).astype("float32")


def block(norm=True):
    return keras.Sequential(
        [
            layers.Conv2D(8, 3, strides=2, padding="same"),
            *([layers.BatchNormalization()] if norm else []),
            layers.ReLU(),
        ]
    )


def dense_blocks():
    return [layers.Dense(8, "relu"), layers.Dense(6, "relu")]


def built(blocks=None, strength=None, **kwargs):
    encoder = AuxiliaryBlockEncoder(
        blocks or [block(), block(), block()], 3, seed=0, **kwargs
    )
    encoder(X)
    if strength is not None:
        encoder.strength.assign(np.broadcast_to(strength, (3,)))
    return encoder


def scored(encoder):
    """Different scores at every depth."""
    rng = np.random.default_rng(3)
    for statistics in encoder.statistics:
        statistics.scores.assign(rng.normal(size=statistics.scores.shape))
    return encoder


def test_standard_checks():
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    run_layer_checks(
        AuxiliaryBlockEncoder(dense_blocks(), 3, selection="random", seed=1),
        x,
        output_shapes=(5, 6),
    )


def test_the_main_path_is_the_plain_encoder_whatever_the_gates():
    encoder = built(strength=1.0)
    for mask in encoder.masks:
        mask.assign(np.arange(8) % 2)
    plain = BlockEncoder(encoder.blocks)
    for training in (False, True):
        expected = to_numpy(plain(X, training=training))
        actual = to_numpy(encoder(X, training=training))
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    parameters = {id(v) for b in encoder.blocks for v in b.trainable_weights}
    assert {id(v) for v in encoder.trainable_weights} == parameters


def auxiliary(encoder, x=X):
    _, first, _ = encoder(x, training=True, return_depths=True)
    return to_numpy(encoder.auxiliary_path(first))


@pytest.mark.slow_on("jax", "tensorflow")
def test_without_gates_the_auxiliary_path_is_the_main_path():
    encoder = built(strength=0.0)
    np.testing.assert_allclose(
        auxiliary(encoder), to_numpy(encoder(X, training=True)), atol=1e-6
    )
    encoder.strength.assign([1.0, 1.0, 1.0])
    # Masks of ones: nothing is removed, and nothing scaled.
    encoder = built(strength=1.0, mask_fraction=1.0)
    np.testing.assert_allclose(
        auxiliary(encoder), to_numpy(encoder(X, training=True)), atol=1e-6
    )


def test_gated_samples_keep_the_masks_channels_scaled():
    encoder = built(strength=[1.0, 0.0, 0.0], mask_fraction=0.25)
    encoder.masks[0].assign([0, 1, 0, 0, 0, 0, 1, 0])
    expected = X[..., :1] * np.array([0, 2, 0, 0, 0, 0, 2, 0])
    maps = np.repeat(X[..., :1], 8, axis=-1)
    maps = ops.convert_to_tensor(maps)
    np.testing.assert_allclose(
        to_numpy(encoder.gate(maps, 0)), expected, atol=1e-6
    )
    np.testing.assert_array_equal(
        to_numpy(encoder.gate(maps, 1)), to_numpy(maps)
    )


def test_gates_are_drawn_for_every_sample_with_the_strength():
    encoder = built(strength=[0.25, 0.5, 0.75], mask_fraction=0.5)
    encoder.masks[0].assign([1, 1, 1, 1, 0, 0, 0, 0])
    ones = ops.ones((4000, 8))
    kept = to_numpy(encoder.gate(ones, 0))
    assert set(np.unique(kept[:, 4:])) == {0.0, 1.0}
    assert (kept[:, 4:] == kept[:, 4:5]).all()
    assert abs((kept[:, 4] == 0).mean() - 0.25) < 0.03
    assert not (to_numpy(encoder.gate(ones, 0)) == kept).all()


class OnlyAuxiliary(keras.Model):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def call(self, x, training=None):
        _, first, _ = self.encoder(x, training=training, return_depths=True)
        return self.encoder.auxiliary_path(first)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("norm", [True, False])
def test_fully_gated_only_the_selected_filters_learn(norm):
    blocks = [block(norm), block(norm), block(norm)]
    encoder = scored(built(blocks, strength=1.0))
    encoder.refresh_masks()
    before = [[to_numpy(v) for v in b.trainable_weights] for b in blocks]
    model = OnlyAuxiliary(encoder)
    model.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)
    model.train_on_batch(X, Y)
    for each, old, mask in zip(blocks, before, encoder.masks, strict=True):
        kept = to_numpy(mask) == 1
        assert kept.sum() == 4
        for variable, start in zip(each.trainable_weights, old, strict=True):
            moved = np.abs(to_numpy(variable) - start).reshape(-1, 8)
            assert (moved[:, ~kept] == 0).all(), variable.path
            if "kernel" in variable.path:
                assert (moved[:, kept].max(axis=0) > 0).sum() >= 3


def test_moving_statistics_are_those_of_the_main_path_alone():
    encoder = built(strength=1.0)
    scored(encoder).refresh_masks()

    def moving():
        return [
            to_numpy(v)
            for b in encoder.blocks
            for v in b.weights
            if "moving" in v.path
        ]

    start = moving()
    _, first, _ = encoder(X, training=True, return_depths=True)
    main = moving()
    encoder.auxiliary_path(first)
    assert len(start) == 6
    for old, expected, actual in zip(start, main, moving(), strict=True):
        assert np.abs(old - expected).max() > 0
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    "share, kept", [(0.5, 4), (0.3, 2), (0.01, 1), (1, 8), (0.99, 7)]
)
def test_masks_keep_their_share_and_at_least_one_channel(share, kept):
    encoder = AuxiliaryBlockEncoder([layers.Dense(8)], 3, mask_fraction=share)
    encoder.build((None, 4))
    scored(encoder).refresh_masks()
    mask = to_numpy(encoder.masks[0])
    assert set(mask.tolist()) <= {0.0, 1.0}
    assert mask.sum() == kept == encoder.kept_channels(8)


def test_selection_follows_the_scores():
    encoders = {
        name: scored(built(selection=name))
        for name in ("under_optimised", "over_optimised", "random")
    }
    masks = {}
    for name, encoder in encoders.items():
        encoder.refresh_masks(epoch=1)
        masks[name] = [to_numpy(m) for m in encoder.masks]
        assert all(m.sum() == 4 for m in masks[name])
    for depth in range(3):
        scores = to_numpy(encoders["random"].statistics[depth].scores)
        weak = scores <= np.sort(scores)[3]
        np.testing.assert_array_equal(masks["under_optimised"][depth], weak)
        np.testing.assert_array_equal(masks["over_optimised"][depth], ~weak)
    drawn = [np.concatenate(masks["random"])]
    for epoch in (2, 1):
        encoders["random"].refresh_masks(epoch)
        drawn.append(
            np.concatenate([to_numpy(m) for m in encoders["random"].masks])
        )
    assert (drawn[0] != drawn[1]).any()
    np.testing.assert_array_equal(drawn[0], drawn[2])


@pytest.mark.slow_on("jax", "tensorflow")
def test_statistics_leave_out_samples_without_the_modality():
    encoder = built()
    value = np.full((4, 8), np.nan, "float32")
    value[1:] = np.arange(24.0).reshape(3, 8)
    labels = ops.convert_to_tensor(np.eye(3)[[0, 0, 1, 2]], "float32")
    weight = ops.convert_to_tensor([0.0, 1.0, 1.0, 1.0])
    pooled = [ops.convert_to_tensor(value)] * 3
    encoder.update_statistics(pooled, labels, weight)
    for statistics in encoder.statistics:
        np.testing.assert_allclose(
            to_numpy(statistics.center), 8 + np.arange(8.0), atol=1e-5
        )
        assert np.isfinite(to_numpy(statistics.scores)).all()


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"blocks": []}, "`blocks` must be a non-empty list"),
        ({"blocks": layers.Dense(4)}, "`blocks` must be a non-empty list"),
        ({"blocks": ["dense"]}, "`blocks` must be a non-empty list"),
    ],
)
def test_bad_arguments_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        AuxiliaryBlockEncoder(
            **{"blocks": dense_blocks(), "num_classes": 3, **kwargs}
        )


def test_a_block_with_two_outputs_is_refused():
    inputs = keras.Input((4,))
    two = keras.Model(inputs, [inputs, inputs + 1.0])
    with pytest.raises(ValueError, match="block 0 returned"):
        AuxiliaryBlockEncoder([two], 3).build((None, 4))
