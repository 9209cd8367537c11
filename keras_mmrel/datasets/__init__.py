"""Loaders of real multimodal data.

Features come as dicts of NumPy arrays; sounds, videos, pictures and texts as
`keras_mmrel.media.MediaTable`, which reads files where they are.
"""

from keras_mmrel.datasets._write_av_digits import write_av_digits
from keras_mmrel.datasets.av_digits import load_av_digits
from keras_mmrel.datasets.ave import load_ave
from keras_mmrel.datasets.brca import load_brca
from keras_mmrel.datasets.breast_tcga import load_breast_tcga
from keras_mmrel.datasets.cremad import load_cremad
from keras_mmrel.datasets.cub import load_cub
from keras_mmrel.datasets.cub_raw import load_cub_raw
from keras_mmrel.datasets.emoji import load_emoji
from keras_mmrel.datasets.food101 import load_food101
from keras_mmrel.datasets.handwritten import load_handwritten
from keras_mmrel.datasets.kinetics_sounds import load_kinetics_sounds
from keras_mmrel.datasets.multiview_digits import load_multiview_digits
from keras_mmrel.datasets.mvsa import load_mvsa
from keras_mmrel.datasets.nyud2 import load_nyud2
from keras_mmrel.datasets.pie import load_pie
from keras_mmrel.datasets.rosmap import load_rosmap
from keras_mmrel.datasets.scene15 import load_scene15
from keras_mmrel.datasets.wiki import load_wiki

__all__ = [
    "load_av_digits",
    "load_ave",
    "load_brca",
    "load_breast_tcga",
    "load_cremad",
    "load_cub",
    "load_cub_raw",
    "load_emoji",
    "load_food101",
    "load_handwritten",
    "load_kinetics_sounds",
    "load_multiview_digits",
    "load_mvsa",
    "load_nyud2",
    "load_pie",
    "load_rosmap",
    "load_scene15",
    "load_wiki",
    "write_av_digits",
]
