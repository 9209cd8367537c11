"""How fast each encoder learns: objects for `compile(modulation=)`."""

from keras_mmrel.modulations.agm import AGM
from keras_mmrel.modulations.amss import AMSS
from keras_mmrel.modulations.arl import ARL
from keras_mmrel.modulations.contribution_acceleration import (
    ContributionAcceleration,
)
from keras_mmrel.modulations.dgl import DGL
from keras_mmrel.modulations.gradient_blending import GradientBlending
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.modulations.info_reg import InfoReg
from keras_mmrel.modulations.mm_pareto import MMPareto
from keras_mmrel.modulations.ogm import OGM
from keras_mmrel.modulations.ogm_ge import OGMGE
from keras_mmrel.modulations.opm import OPM
from keras_mmrel.modulations.pmr import PMR
from keras_mmrel.modulations.umt import UMT

__all__ = [
    "AGM",
    "AMSS",
    "ARL",
    "ContributionAcceleration",
    "DGL",
    "GradientBlending",
    "GradientModulation",
    "InfoReg",
    "MMPareto",
    "OGM",
    "OGMGE",
    "OPM",
    "PMR",
    "UMT",
]
