"""Small encoders of AV-digits, a list of blocks each."""

import keras


def three_blocks(name, shape):
    """Three blocks: of convolutions, or of dense layers for vectors.

    Args:
        name: Name of the modality.
        shape: Its shape, without the batch.
    """
    options = {"use_bias": False, "kernel_initializer": "he_normal"}
    if len(shape) == 1:
        return _blocks(
            [keras.layers.Dense(32, **options) for _ in range(3)], shape
        )
    kind, channels, strides = {
        2: (keras.layers.Conv1D, (32, 32, 32), (2, 2, 2)),
        3: (keras.layers.Conv2D, (16, 32, 32), (2, 2, 1)),
    }[len(shape)]
    layers = [
        kind(count, 3, strides=step, padding="same", **options)
        for count, step in zip(channels, strides, strict=True)
    ]
    return _blocks(layers, shape)


def _blocks(layers, shape):
    """Each layer with batch normalisation and ReLU behind it."""
    return [
        keras.Sequential(
            [
                *([keras.Input(shape)] if index == 0 else []),
                layer,
                keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
                keras.layers.ReLU(),
            ]
        )
        for index, layer in enumerate(layers)
    ]
