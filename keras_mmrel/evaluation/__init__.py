from keras_mmrel.evaluation.evaluate_robustness import evaluate_robustness
from keras_mmrel.evaluation.noise_protocol import NOISE_PROTOCOLS
from keras_mmrel.evaluation.noise_protocol import NoiseProtocol
from keras_mmrel.evaluation.plot_ici import plot_ici
from keras_mmrel.evaluation.robustness_report import RobustnessReport

__all__ = [
    "NOISE_PROTOCOLS",
    "NoiseProtocol",
    "RobustnessReport",
    "evaluate_robustness",
    "plot_ici",
]
