"""Backbones with weights out of packages of 20 MB and less, without a hub."""

from keras_mmrel.encoders.pretrained._efficientnet_lite0 import (
    efficientnet_lite0,
)
from keras_mmrel.encoders.pretrained._openwakeword import openwakeword
from keras_mmrel.encoders.pretrained._wordllama import wordllama
from keras_mmrel.encoders.pretrained.word_llama_tokenizer import (
    WordLlamaTokenizer,
)

__all__ = [
    "WordLlamaTokenizer",
    "efficientnet_lite0",
    "openwakeword",
    "wordllama",
]
