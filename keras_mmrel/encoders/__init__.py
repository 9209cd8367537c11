"""From what a modality is to a feature `(batch, d)` of it."""

from keras_mmrel.encoders import pretrained as pretrained
from keras_mmrel.encoders._split_backbone import split_backbone
from keras_mmrel.encoders.audio_encoder import AudioEncoder
from keras_mmrel.encoders.block_encoder import BlockEncoder
from keras_mmrel.encoders.conv_encoder import ConvEncoder
from keras_mmrel.encoders.image_encoder import ImageEncoder
from keras_mmrel.encoders.log_mel_spectrogram import LogMelSpectrogram
from keras_mmrel.encoders.mlp_encoder import MLPEncoder
from keras_mmrel.encoders.pooled_encoder import PooledEncoder
from keras_mmrel.encoders.residual_block import ResidualBlock
from keras_mmrel.encoders.scaling import Scaling
from keras_mmrel.encoders.sequence_encoder import SequenceEncoder
from keras_mmrel.encoders.text_encoder import TextEncoder
from keras_mmrel.encoders.video_encoder import VideoEncoder

__all__ = [
    "AudioEncoder",
    "BlockEncoder",
    "ConvEncoder",
    "ImageEncoder",
    "LogMelSpectrogram",
    "MLPEncoder",
    "PooledEncoder",
    "ResidualBlock",
    "Scaling",
    "SequenceEncoder",
    "TextEncoder",
    "VideoEncoder",
    "split_backbone",
]
