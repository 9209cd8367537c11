"""Log-mel spectrograms of short clips, by Keras' own layer."""

from collections.abc import Iterable
from itertools import islice

import keras
import numpy as np

SAMPLE_RATE = 8000
FRAMES = 32
MEL_BINS = 32
FRAME_LENGTH = 256
HOP = 250
LENGTH = HOP * (FRAMES - 1) + FRAME_LENGTH
FLOOR = 1e-4
BATCH = 100

# The layer centres frame k at sample k * HOP and mirrors the signal's ends.
# With these zeros in front, frame k + 1 starts where the signal's own frame k
# starts; frame 0, the only one that sees a mirrored end, is dropped.
LEAD = HOP - FRAME_LENGTH // 2


def log_mel(clips: Iterable[np.ndarray]) -> np.ndarray:
    """Return the log-mel spectrograms of clips sampled at 8 kHz.

    Each clip is divided by its peak, then cut or padded with zeros to 1.0 s.
    The layer's decibels are not used: their floor hangs on the loudest clip of
    a batch. A batch has always `BATCH` rows, so that JAX compiles once.

    Args:
        clips: One-dimensional float arrays, none of them empty or all zero.

    Returns:
        `(clips, FRAMES, MEL_BINS)` in float32.
    """
    layer = keras.layers.MelSpectrogram(
        fft_length=FRAME_LENGTH,
        sequence_stride=HOP,
        window=np.hanning(FRAME_LENGTH).astype("float32"),
        sampling_rate=SAMPLE_RATE,
        num_mel_bins=MEL_BINS,
        min_freq=60.0,
        max_freq=4000.0,
        power_to_db=False,
        dtype="float32",
    )
    spectrograms = []
    waves = iter(clips)
    # Products on a GPU or TPU may be rounded to fewer bits.
    with keras.device("cpu:0"):
        triangles = layer.linear_to_mel_weight_matrix(
            num_mel_bins=MEL_BINS,
            num_spectrogram_bins=FRAME_LENGTH // 2 + 1,
            sampling_rate=SAMPLE_RATE,
            lower_edge_hertz=60.0,
            upper_edge_hertz=4000.0,
        )
        areas = keras.ops.convert_to_numpy(triangles).sum(axis=0)
        while batch := list(islice(waves, BATCH)):
            signals = np.zeros((BATCH, LEAD + LENGTH), dtype="float32")
            for signal, wave in zip(signals, batch, strict=False):
                body = wave[:LENGTH] / np.abs(wave).max()
                signal[LEAD : LEAD + len(body)] = body
            # (batch, mel bins, frames) -> (batch, frames, mel bins)
            power = keras.ops.convert_to_numpy(layer(signals))
            power = power.transpose(0, 2, 1)[:, 1:] / areas
            log_power = np.log(power + FLOOR, dtype="float32")
            spectrograms.append(log_power[: len(batch)])
    return np.concatenate(spectrograms)
