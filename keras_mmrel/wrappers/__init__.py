"""Models of the library as what other libraries take."""

from keras_mmrel.wrappers._sample_array import sample_array
from keras_mmrel.wrappers.multimodal_classifier import MultimodalClassifier

__all__ = ["MultimodalClassifier", "sample_array"]
