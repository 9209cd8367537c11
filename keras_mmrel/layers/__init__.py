from keras_mmrel.layers.auxiliary_block_encoder import AuxiliaryBlockEncoder
from keras_mmrel.layers.corruption_augmentation import CorruptionAugmentation
from keras_mmrel.layers.depth_allocator import DepthAllocator
from keras_mmrel.layers.dynamic_depth_fusion import DynamicDepthFusion
from keras_mmrel.layers.feature_gate import FeatureGate
from keras_mmrel.layers.gradient_scale import GradientScale
from keras_mmrel.layers.information_bottleneck import InformationBottleneck
from keras_mmrel.layers.modality_contribution import ModalityContribution
from keras_mmrel.layers.prototype_confidence import PrototypeConfidence

__all__ = [
    "AuxiliaryBlockEncoder",
    "CorruptionAugmentation",
    "DepthAllocator",
    "DynamicDepthFusion",
    "FeatureGate",
    "GradientScale",
    "InformationBottleneck",
    "ModalityContribution",
    "PrototypeConfidence",
]
