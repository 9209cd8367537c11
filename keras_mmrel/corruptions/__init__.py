"""Seeded, serialisable corruptions of multimodal data."""

from keras_mmrel.corruptions.blur import Blur
from keras_mmrel.corruptions.brightness import Brightness
from keras_mmrel.corruptions.clipped_gaussian_noise import ClippedGaussianNoise
from keras_mmrel.corruptions.corruption import Corruption
from keras_mmrel.corruptions.dropped_frames import DroppedFrames
from keras_mmrel.corruptions.dropped_segments import DroppedSegments
from keras_mmrel.corruptions.dropped_words import DroppedWords
from keras_mmrel.corruptions.feature_permutation import FeaturePermutation
from keras_mmrel.corruptions.feature_swap import FeatureSwap
from keras_mmrel.corruptions.frozen_frames import FrozenFrames
from keras_mmrel.corruptions.gaussian_noise import GaussianNoise
from keras_mmrel.corruptions.jpeg_compression import JPEGCompression
from keras_mmrel.corruptions.missing_modality import MissingModality
from keras_mmrel.corruptions.modality_conflict import ModalityConflict
from keras_mmrel.corruptions.occlusion import Occlusion
from keras_mmrel.corruptions.qmf_image_noise import QMFImageNoise
from keras_mmrel.corruptions.salt_and_pepper import SaltAndPepper
from keras_mmrel.corruptions.swapped_modalities import SwappedModalities
from keras_mmrel.corruptions.swapped_words import SwappedWords
from keras_mmrel.corruptions.token_replacement import TokenReplacement
from keras_mmrel.corruptions.typing_errors import TypingErrors
from keras_mmrel.corruptions.unaligned_samples import UnalignedSamples
from keras_mmrel.corruptions.waveform_clipping import WaveformClipping
from keras_mmrel.corruptions.waveform_noise import WaveformNoise

__all__ = [
    "Blur",
    "Brightness",
    "ClippedGaussianNoise",
    "Corruption",
    "DroppedFrames",
    "DroppedSegments",
    "DroppedWords",
    "FeaturePermutation",
    "FeatureSwap",
    "FrozenFrames",
    "GaussianNoise",
    "JPEGCompression",
    "MissingModality",
    "ModalityConflict",
    "Occlusion",
    "QMFImageNoise",
    "SaltAndPepper",
    "SwappedModalities",
    "SwappedWords",
    "TokenReplacement",
    "TypingErrors",
    "UnalignedSamples",
    "WaveformClipping",
    "WaveformNoise",
]
