from keras_mmrel.losses.label_crossentropy import LabelCrossentropy

__all__ = ["LabelCrossentropy"]
