from keras_mmrel.evaluation.conformal_sets import ConformalSets
from keras_mmrel.evaluation.evaluate_robustness import evaluate_robustness
from keras_mmrel.evaluation.modality_contributions import modality_contributions
from keras_mmrel.evaluation.noise_protocol import NOISE_PROTOCOLS
from keras_mmrel.evaluation.noise_protocol import NoiseProtocol
from keras_mmrel.evaluation.plot_ici import plot_ici
from keras_mmrel.evaluation.robustness_report import RobustnessReport
from keras_mmrel.evaluation.selective_prediction import selective_prediction
from keras_mmrel.evaluation.selective_rule import SelectiveRule
from keras_mmrel.evaluation.temperature_scaling import TemperatureScaling

__all__ = [
    "ConformalSets",
    "NOISE_PROTOCOLS",
    "NoiseProtocol",
    "RobustnessReport",
    "SelectiveRule",
    "TemperatureScaling",
    "evaluate_robustness",
    "modality_contributions",
    "plot_ici",
    "selective_prediction",
]
