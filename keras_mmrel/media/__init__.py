"""Files to arrays: a table of paths, texts and numbers as data for `fit`.

>>> from keras_mmrel import media
>>> train = media.MediaTable(  # doctest: +SKIP
...     "train.csv",
...     {"audio": media.Audio("wav", seconds=3.0),
...      "image": media.Image("photo", size=64)},
...     label="emotion", batch_size=64, shuffle=True, workers=2,
... )
>>> model = keras_mmrel.ConcatFusion(  # doctest: +SKIP
...     {"audio": my_encoder, "image": train.shapes["image"]},
...     train.num_classes, class_names=train.class_names,
... )
"""

from keras_mmrel.media.array import Array
from keras_mmrel.media.audio import Audio
from keras_mmrel.media.file_medium import FileMedium
from keras_mmrel.media.hashing_tokenizer import HashingTokenizer
from keras_mmrel.media.image import Image
from keras_mmrel.media.kaldi_filter_bank import KaldiFilterBank
from keras_mmrel.media.media_table import MediaTable
from keras_mmrel.media.medium import Medium
from keras_mmrel.media.series import Series
from keras_mmrel.media.spectrogram import Spectrogram
from keras_mmrel.media.tabular import Tabular
from keras_mmrel.media.text import Text
from keras_mmrel.media.video import Video

__all__ = [
    "Array",
    "Audio",
    "FileMedium",
    "HashingTokenizer",
    "Image",
    "KaldiFilterBank",
    "MediaTable",
    "Medium",
    "Series",
    "Spectrogram",
    "Tabular",
    "Text",
    "Video",
]
