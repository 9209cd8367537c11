"""Multimodal classifiers, their base and its parts."""

from keras_mmrel.models.aim import AIM
from keras_mmrel.models.auxiliary_paths import AuxiliaryPaths
from keras_mmrel.models.cal import CAL
from keras_mmrel.models.clock import Clock
from keras_mmrel.models.concat_fusion import ConcatFusion
from keras_mmrel.models.deep_ensemble import DeepEnsemble
from keras_mmrel.models.etmc import ETMC
from keras_mmrel.models.late_fusion import LateFusion
from keras_mmrel.models.mc_dropout import MCDropout
from keras_mmrel.models.micinet import MICINet
from keras_mmrel.models.mm_cosine import MMCosine
from keras_mmrel.models.mm_dynamics import MMDynamics
from keras_mmrel.models.multimodal_model import MultimodalModel
from keras_mmrel.models.pdf import PDF
from keras_mmrel.models.qadm_net import QADMNet
from keras_mmrel.models.qmf import QMF
from keras_mmrel.models.rcml import RCML
from keras_mmrel.models.reliable_fusion import ReliableFusion
from keras_mmrel.models.side_input import SideInput
from keras_mmrel.models.tmc import TMC
from keras_mmrel.models.udml import UDML

__all__ = [
    "AIM",
    "AuxiliaryPaths",
    "CAL",
    "Clock",
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
    "SideInput",
    "TMC",
    "UDML",
]
