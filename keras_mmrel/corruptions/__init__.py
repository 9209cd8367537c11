"""Seeded, serialisable corruptions of multimodal data."""

from keras_mmrel.corruptions.clipped_gaussian_noise import ClippedGaussianNoise
from keras_mmrel.corruptions.corruption import Corruption
from keras_mmrel.corruptions.feature_permutation import FeaturePermutation
from keras_mmrel.corruptions.feature_swap import FeatureSwap
from keras_mmrel.corruptions.gaussian_noise import GaussianNoise
from keras_mmrel.corruptions.missing_modality import MissingModality
from keras_mmrel.corruptions.modality_conflict import ModalityConflict
from keras_mmrel.corruptions.qmf_image_noise import QMFImageNoise
from keras_mmrel.corruptions.salt_and_pepper import SaltAndPepper
from keras_mmrel.corruptions.token_replacement import TokenReplacement
from keras_mmrel.corruptions.unaligned_samples import UnalignedSamples

__all__ = [
    "ModalityConflict",
    "FeatureSwap",
    "FeaturePermutation",
    "ClippedGaussianNoise",
    "Corruption",
    "GaussianNoise",
    "MissingModality",
    "QMFImageNoise",
    "SaltAndPepper",
    "TokenReplacement",
    "UnalignedSamples",
]
