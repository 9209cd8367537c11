"""Loaders of real multimodal data, as dicts of NumPy arrays."""

from keras_mmrel.datasets.av_digits import load_av_digits
from keras_mmrel.datasets.brca import load_brca
from keras_mmrel.datasets.breast_tcga import load_breast_tcga
from keras_mmrel.datasets.cub import load_cub
from keras_mmrel.datasets.multiview_digits import load_multiview_digits
from keras_mmrel.datasets.rosmap import load_rosmap
from keras_mmrel.datasets.wiki import load_wiki

__all__ = [
    "load_av_digits",
    "load_brca",
    "load_breast_tcga",
    "load_cub",
    "load_multiview_digits",
    "load_rosmap",
    "load_wiki",
]
