"""Small random media for the tests of their corruptions."""

import numpy as np

from keras_mmrel.corruptions._pictures import FrameCorruption
from keras_mmrel.corruptions._pictures import PictureCorruption
from keras_mmrel.corruptions._texts import TextCorruption
from keras_mmrel.corruptions._waveforms import WaveformCorruption

WORDS = "a deep learning model hears three digits and sees them too".split()


def waveforms(n, rng):
    return rng.normal(size=(n, 810)).astype("float32")


def images(n, rng, shape=(8, 8, 3)):
    """Pixels in [0, 1]; every pixel is black and white in some of many."""
    values = rng.uniform(-1.0, 2.0, size=(n, *shape)).clip(0, 1)
    return values.astype("float32")


def videos(n, rng):
    return images(n, rng, (5, 6, 8, 1))


def texts(n, rng):
    """Different words in each, since equal ones change places unseen."""
    values = np.empty(n, object)
    for row in range(n):
        count = rng.integers(5, len(WORDS))
        values[row] = " ".join(rng.permutation(WORDS)[:count])
    return values


def of(corruption):
    """Return the function that makes its medium, `None` for features.

    Args:
        corruption: A corruption, or its class.
    """
    cls = corruption if isinstance(corruption, type) else type(corruption)
    for base, medium in (
        (WaveformCorruption, waveforms),
        (PictureCorruption, images),
        (FrameCorruption, videos),
        (TextCorruption, texts),
    ):
        if issubclass(cls, base):
            return medium
    return None
