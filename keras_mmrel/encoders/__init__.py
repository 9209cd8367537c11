from keras_mmrel.encoders.conv_encoder import ConvEncoder
from keras_mmrel.encoders.mlp_encoder import MLPEncoder
from keras_mmrel.encoders.pooled_encoder import PooledEncoder

__all__ = ["ConvEncoder", "MLPEncoder", "PooledEncoder"]
