"""Parts of the methods, for a Keras model of your own too."""

from keras_mmrel.layers.corruption_augmentation import CorruptionAugmentation
from keras_mmrel.layers.cosine_classifier import CosineClassifier
from keras_mmrel.layers.cross_modality_compensation import (
    CrossModalityCompensation,
)
from keras_mmrel.layers.depth_allocator import DepthAllocator
from keras_mmrel.layers.discriminative_power import DiscriminativePower
from keras_mmrel.layers.dynamic_depth_fusion import DynamicDepthFusion
from keras_mmrel.layers.feature_gate import FeatureGate
from keras_mmrel.layers.feature_repair import FeatureRepair
from keras_mmrel.layers.gradient_scale import GradientScale
from keras_mmrel.layers.ici_removal import ICIRemoval
from keras_mmrel.layers.information_bottleneck import InformationBottleneck
from keras_mmrel.layers.input_quality import InputQuality
from keras_mmrel.layers.modality_contribution import ModalityContribution
from keras_mmrel.layers.modality_embedding import ModalityEmbedding
from keras_mmrel.layers.prototype_confidence import PrototypeConfidence
from keras_mmrel.layers.range_control import RangeControl
from keras_mmrel.layers.running_standardization import RunningStandardization
from keras_mmrel.layers.sample_history import SampleHistory

__all__ = [
    "CorruptionAugmentation",
    "CosineClassifier",
    "CrossModalityCompensation",
    "DepthAllocator",
    "DiscriminativePower",
    "DynamicDepthFusion",
    "FeatureGate",
    "FeatureRepair",
    "GradientScale",
    "ICIRemoval",
    "InformationBottleneck",
    "InputQuality",
    "ModalityContribution",
    "ModalityEmbedding",
    "PrototypeConfidence",
    "RangeControl",
    "RunningStandardization",
    "SampleHistory",
]
