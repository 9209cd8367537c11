"""Small random backbones of keras-hub, and data that they take."""

import functools

import numpy as np

import keras_mmrel
from keras_mmrel import encoders

TOKENS = 12
TRANSFORMER = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
}
TEXT = {"vocabulary_size": 40, "max_sequence_length": 24, **TRANSFORMER}


@functools.cache
def hub():
    import keras_hub

    return keras_hub.models


def resnet():
    return hub().ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )


def vit():
    return hub().ViTBackbone(
        image_shape=(16, 16, 3),
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
    )


def mobilenet():
    return hub().MobileNetBackbone(
        stackwise_expansion=[[8], [8]],
        stackwise_num_blocks=[1, 1],
        stackwise_num_filters=[[8], [8]],
        stackwise_kernel_size=[[3], [3]],
        stackwise_num_strides=[[2], [1]],
        stackwise_se_ratio=[[None], [0.25]],
        stackwise_activation=[["relu6"], ["hard_swish"]],
        stackwise_padding=[[1], [1]],
        image_shape=(16, 16, 3),
        input_num_filters=8,
        output_num_filters=8,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=8,
    )


def distilbert():
    return hub().DistilBertBackbone(**TEXT)


def bert():
    return hub().BertBackbone(**TEXT)


def whisper():
    return hub().WhisperBackbone(
        vocabulary_size=20,
        num_mels=8,
        max_encoder_sequence_length=16,
        max_decoder_sequence_length=4,
        **TRANSFORMER,
    )


def moonshine():
    return hub().MoonshineBackbone(
        vocabulary_size=20,
        filter_dim=8,
        encoder_num_layers=2,
        decoder_num_layers=1,
        hidden_dim=8,
        intermediate_dim=16,
        encoder_num_heads=2,
        decoder_num_heads=2,
    )


# Name -> what makes an encoder, with `fine_tune` and other options.
ENCODERS = {
    "resnet": lambda **o: encoders.ImageEncoder(resnet(), (16, 16, 3), **o),
    "vit": lambda **o: encoders.ImageEncoder(vit(), **o),
    "mobilenet": lambda **o: encoders.ImageEncoder(mobilenet(), **o),
    "distilbert": lambda **o: encoders.TextEncoder(distilbert(), TOKENS, **o),
    "bert": lambda **o: encoders.TextEncoder(bert(), TOKENS, **o),
    "whisper": lambda **o: encoders.AudioEncoder(whisper(), (16, 8), **o),
    "moonshine": lambda **o: encoders.AudioEncoder(moonshine(), (4000,), **o),
}


def example(name, samples, rng):
    """Inputs of an encoder; images as bytes."""
    if name == "clip":
        return rng.integers(0, 256, (samples, 2, 16, 16, 3)).astype("uint8")
    if name == "numbers":
        return rng.normal(size=(samples, 3)).astype("float32")
    if name in ("resnet", "vit", "mobilenet"):
        return rng.integers(0, 256, (samples, 16, 16, 3)).astype("uint8")
    if name in ("distilbert", "bert"):
        count = rng.integers(2, TOKENS + 1, (samples, 1))
        mask = np.arange(TOKENS) < count
        tokens = rng.integers(1, 40, (samples, TOKENS)).astype("int32")
        return {"token_ids": tokens * mask, "padding_mask": mask}
    shape = (16, 8) if name == "whisper" else (4000,)
    return rng.normal(size=(samples, *shape)).astype("float32")


def pair(model, first, second, **options):
    """A model of two modalities, each with a backbone."""
    modalities = {name: ENCODERS[name](**options) for name in (first, second)}
    return getattr(keras_mmrel, model)(modalities, 3, seed=0)
