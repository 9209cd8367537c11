"""Calibration, risk and coverage, detection, and imbalance."""

from keras_mmrel.metrics.aurc import AURC
from keras_mmrel.metrics.brier_score import BrierScore
from keras_mmrel.metrics.detection_auroc import DetectionAUROC
from keras_mmrel.metrics.excess_aurc import ExcessAURC
from keras_mmrel.metrics.expected_calibration_error import (
    ExpectedCalibrationError,
)
from keras_mmrel.metrics.false_positive_rate_at_recall import (
    FalsePositiveRateAtRecall,
)
from keras_mmrel.metrics.label_accuracy import LabelAccuracy
from keras_mmrel.metrics.modality_imbalance import ModalityImbalance

__all__ = [
    "AURC",
    "BrierScore",
    "DetectionAUROC",
    "ExcessAURC",
    "ExpectedCalibrationError",
    "FalsePositiveRateAtRecall",
    "LabelAccuracy",
    "ModalityImbalance",
]
