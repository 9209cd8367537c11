from keras_mmrel.encoders._split_backbone import split_backbone
from keras_mmrel.encoders.block_encoder import BlockEncoder
from keras_mmrel.encoders.conv_encoder import ConvEncoder
from keras_mmrel.encoders.mlp_encoder import MLPEncoder
from keras_mmrel.encoders.pooled_encoder import PooledEncoder
from keras_mmrel.encoders.residual_block import ResidualBlock

__all__ = [
    "BlockEncoder",
    "ConvEncoder",
    "MLPEncoder",
    "PooledEncoder",
    "ResidualBlock",
    "split_backbone",
]
