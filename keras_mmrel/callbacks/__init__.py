"""What happens between epochs: watch modalities, survive a kill."""

from keras_mmrel.callbacks.modality_monitor import ModalityMonitor
from keras_mmrel.callbacks.relearning import Relearning
from keras_mmrel.callbacks.training_state import TrainingState

__all__ = ["ModalityMonitor", "Relearning", "TrainingState"]
