"""Loaders of real multimodal data, as dicts of NumPy arrays."""

from keras_mmrel.datasets.av_digits import load_av_digits
from keras_mmrel.datasets.brca import load_brca
from keras_mmrel.datasets.multiview_digits import load_multiview_digits
from keras_mmrel.datasets.rosmap import load_rosmap

__all__ = [
    "load_av_digits",
    "load_brca",
    "load_multiview_digits",
    "load_rosmap",
]
