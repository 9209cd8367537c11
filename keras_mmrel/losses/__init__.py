"""Losses of labels, evidence and order."""

from keras_mmrel.losses.evidential_crossentropy import EvidentialCrossentropy
from keras_mmrel.losses.label_crossentropy import LabelCrossentropy
from keras_mmrel.losses.rank_loss import RankLoss

__all__ = [
    "EvidentialCrossentropy",
    "LabelCrossentropy",
    "RankLoss",
]
