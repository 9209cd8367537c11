from keras_mmrel.callbacks.modality_monitor import ModalityMonitor

__all__ = ["ModalityMonitor"]
