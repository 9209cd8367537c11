"""Reliable and balanced multimodal classification in Keras 3."""

from keras_mmrel import benchmark
from keras_mmrel import callbacks
from keras_mmrel import corruptions
from keras_mmrel import datasets
from keras_mmrel import diagnose
from keras_mmrel import encoders
from keras_mmrel import evaluation
from keras_mmrel import layers
from keras_mmrel import losses
from keras_mmrel import media
from keras_mmrel import metrics
from keras_mmrel import models
from keras_mmrel import modulations
from keras_mmrel import wrappers
from keras_mmrel.models import AIM
from keras_mmrel.models import CAL
from keras_mmrel.models import ETMC
from keras_mmrel.models import PDF
from keras_mmrel.models import QMF
from keras_mmrel.models import RCML
from keras_mmrel.models import TMC
from keras_mmrel.models import UDML
from keras_mmrel.models import ConcatFusion
from keras_mmrel.models import DeepEnsemble
from keras_mmrel.models import LateFusion
from keras_mmrel.models import MCDropout
from keras_mmrel.models import MICINet
from keras_mmrel.models import MMCosine
from keras_mmrel.models import MMDynamics
from keras_mmrel.models import MultimodalModel
from keras_mmrel.models import QADMNet
from keras_mmrel.models import ReliableFusion

__version__ = "0.1.0"

__all__ = [
    "AIM",
    "CAL",
    "ConcatFusion",
    "DeepEnsemble",
    "ETMC",
    "LateFusion",
    "MCDropout",
    "MICINet",
    "MMCosine",
    "MMDynamics",
    "MultimodalModel",
    "PDF",
    "QADMNet",
    "QMF",
    "RCML",
    "ReliableFusion",
    "TMC",
    "UDML",
    "benchmark",
    "callbacks",
    "corruptions",
    "datasets",
    "diagnose",
    "encoders",
    "evaluation",
    "layers",
    "losses",
    "media",
    "metrics",
    "models",
    "modulations",
    "wrappers",
]
