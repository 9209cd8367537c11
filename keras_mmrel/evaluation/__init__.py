"""Scores under corruption, calibration, and when to abstain."""

from keras_mmrel.evaluation._contributions import modality_contributions
from keras_mmrel.evaluation._ici_plot import plot_ici
from keras_mmrel.evaluation._robustness import evaluate_robustness
from keras_mmrel.evaluation._scores import SCORES
from keras_mmrel.evaluation._selective import selective_prediction
from keras_mmrel.evaluation.conformal_sets import ConformalSets
from keras_mmrel.evaluation.decision import Decision
from keras_mmrel.evaluation.drift_report import DriftReport
from keras_mmrel.evaluation.noise_protocol import NOISE_PROTOCOLS
from keras_mmrel.evaluation.noise_protocol import NoiseProtocol
from keras_mmrel.evaluation.predictions import Predictions
from keras_mmrel.evaluation.robustness_report import RobustnessReport
from keras_mmrel.evaluation.score import Score
from keras_mmrel.evaluation.selective_rule import SelectiveRule
from keras_mmrel.evaluation.temperature_scaling import TemperatureScaling

__all__ = [
    "ConformalSets",
    "Decision",
    "DriftReport",
    "NOISE_PROTOCOLS",
    "NoiseProtocol",
    "Predictions",
    "RobustnessReport",
    "SCORES",
    "Score",
    "SelectiveRule",
    "TemperatureScaling",
    "evaluate_robustness",
    "modality_contributions",
    "plot_ici",
    "selective_prediction",
]
