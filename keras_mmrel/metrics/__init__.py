from keras_mmrel.metrics.brier_score import BrierScore
from keras_mmrel.metrics.expected_calibration_error import (
    ExpectedCalibrationError,
)

__all__ = ["BrierScore", "ExpectedCalibrationError"]
