from keras_mmrel.callbacks.epoch_record import EpochRecord
from keras_mmrel.callbacks.modality_monitor import ModalityMonitor
from keras_mmrel.callbacks.warmup_schedule import WarmupSchedule

__all__ = ["EpochRecord", "ModalityMonitor", "WarmupSchedule"]
