"""From what describes a modality to its encoder and its input shape."""

import zlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_mmrel._shapes import map_shapes
from keras_mmrel.encoders import BlockEncoder
from keras_mmrel.encoders import ConvEncoder
from keras_mmrel.encoders import ImageEncoder
from keras_mmrel.encoders import MLPEncoder
from keras_mmrel.encoders import SequenceEncoder
from keras_mmrel.encoders import VideoEncoder
from keras_mmrel.encoders._pooling import PADDING
from keras_mmrel.models import validation


def layer_or_shape(spec: Any) -> Any:
    """Normalise what describes a modality: a list of blocks is a layer."""
    if isinstance(spec, keras.layers.Layer):
        return spec
    if isinstance(spec, Mapping):
        return map_shapes(tuple, dict(spec))
    return BlockEncoder(spec) if validation.is_block_list(spec) else tuple(spec)


def known_shape(spec: Any) -> Any:
    """Input shape without the batch axis, or `None` if nobody knows it yet."""
    if isinstance(spec, Mapping):
        return dict(spec)
    if not isinstance(spec, keras.layers.Layer):
        return tuple(spec)
    try:
        shape = spec.input_shape
    except AttributeError:
        return None
    if isinstance(shape, list):
        return None
    return map_shapes(lambda s: tuple(s[1:]), shape)


def pixel_modalities(
    names: Sequence[str], encoders: Sequence[keras.layers.Layer]
) -> list[str]:
    """Modalities whose encoder takes pixels in [0, 1], and bytes as such."""
    return [
        name
        for name, encoder in zip(names, encoders, strict=True)
        if isinstance(encoder, ConvEncoder | ImageEncoder | VideoEncoder)
    ]


def check_sharing(
    names: Sequence[str], encoders: Sequence[keras.layers.Layer]
) -> None:
    """Refuse two encoders that share some weights: no file can hold them."""
    for index, encoder in enumerate(encoders):
        own = {id(weight) for weight in encoder.weights}
        for other, name in zip(encoders[:index], names, strict=False):
            if other is not encoder and own & {id(w) for w in other.weights}:
                raise ValueError(
                    f"`modalities['{names[index]}']` must have weights of its "
                    f"own, or be the encoder of '{name}' itself. Received: two "
                    "encoders round one backbone"
                )


def encoder_name(modality: str) -> str:
    """Name of a default encoder, without what a backend gives a meaning."""
    return f"{modality.replace('/', '_').replace('.', '_')}_encoder"


def derive_seed(seed: int, name: str) -> int:
    """Seed of one random part of a model."""
    return zlib.crc32(f"{seed}/{name}".encode()) % 2**31


def default_encoder(
    name: str, shape: Any, dtype: Any, seed: int
) -> keras.layers.Layer:
    """An MLP for a vector, a convolutional network for what has more axes.

    A video's frames go through one such network. A padded sequence, a dict of
    two shapes, has one over time.
    """
    options: dict[str, Any] = {
        "name": encoder_name(name),
        "dtype": dtype,
        "seed": derive_seed(seed, name),
    }
    if isinstance(shape, Mapping):
        return _sequence_encoder(name, shape, options)
    if len(shape) == 1:
        return MLPEncoder(**options)
    if len(shape) in (2, 3):
        return ConvEncoder(**options)
    if len(shape) == 4:
        return VideoEncoder(
            ConvEncoder(**{**options, "name": "frame_encoder"}),
            name=options["name"],
            dtype=dtype,
        )
    raise ValueError(
        f"`modalities['{name}']` must have one to four axes to get a "
        "default encoder; pass a Keras layer for any other. Received: "
        f"shape={shape}"
    )


def _sequence_encoder(
    name: str, shapes: Mapping[str, tuple], options: dict[str, Any]
) -> keras.layers.Layer:
    others = [shape for key, shape in shapes.items() if key != PADDING]
    if (
        PADDING not in shapes
        or [len(shape) for shape in others] != [2]
        or shapes[PADDING] != others[0][:1]
    ):
        raise ValueError(
            f"`modalities['{name}']` must hold values (time, features) and "
            f"'{PADDING}' (time,) to get a default encoder; pass a Keras "
            "layer, such as `keras_mmrel.encoders.TextEncoder`, for any other. "
            f"Received: {dict(shapes)}"
        )
    return SequenceEncoder(**options)
