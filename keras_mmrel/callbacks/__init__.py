from keras_mmrel.callbacks.warmup_schedule import WarmupSchedule

__all__ = ["WarmupSchedule"]
