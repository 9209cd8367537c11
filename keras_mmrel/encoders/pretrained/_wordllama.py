from pathlib import Path

import keras
from keras import layers

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import constrained
from keras_mmrel.encoders._token_inputs import PADDING
from keras_mmrel.encoders._token_inputs import TOKENS
from keras_mmrel.encoders.pretrained._package import FOLDER
from keras_mmrel.encoders.pretrained._package import Package
from keras_mmrel.encoders.pretrained._safetensors import read_safetensors

PACKAGE = Package(
    "wordllama", "wordllama", "pip install wordllama==0.4.0.post1"
)
FILE = "weights/l2_supercat_256.safetensors"
TENSOR = "embedding.weight"
VOCABULARY = 32000
SIZES = (256, 128, 64)


@constrained(size=Either(*SIZES), folder=FOLDER)
def wordllama(size: int = 256, folder: str | Path | None = None) -> keras.Model:
    """WordLlama's token embeddings, out of a package.

    For `keras_mmrel.encoders.TextEncoder`, whose mean over tokens is
    WordLlama's embedding of a text. Tokens are those of
    `keras_mmrel.encoders.pretrained.WordLlamaTokenizer`. Each token has one
    vector, whatever stands round it.

    The weights (32,000 x 256) are those of the PyPI package `wordllama`, 19 MB,
    MIT; they were trained from token embeddings of Llama 2 and other models,
    which have licences of their own. The file is read without the package;
    means equal its `embed` to 1e-4. A model that has been saved needs it no
    more.

    Args:
        size: 256, 128 or 64, the first numbers of each vector: it was trained
            so that these stand for themselves.
        folder: Where the package lies (`pip install --target folder`), or
            `None` for where it is installed.

    Returns:
        `keras.Model` from a dict of `"token_ids"` and `"padding_mask"`,
        `(batch, tokens)` each, to `(batch, tokens, size)`.

    Raises:
        ImportError: If the package is not there.
        ValueError: If `folder` does not hold it, or another file.

    Example:

    ```python
    from keras_mmrel import encoders
    from keras_mmrel import media

    text = media.Text(
        "caption",
        tokenizer=encoders.pretrained.WordLlamaTokenizer(),
        length=32,
    )
    encoder = encoders.TextEncoder(encoders.pretrained.wordllama(), 32)
    ```

    References:
        D. L. Miller, "WordLlama: recycled token embeddings from large language
        models", 2024, https://github.com/dleemiller/wordllama.
    """
    tensors = read_safetensors(PACKAGE.read(FILE, "wordllama", folder))
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if shapes.get(TENSOR) != (VOCABULARY, max(SIZES)):
        raise ValueError(
            f"`folder` must hold '{TENSOR}' of shape "
            f"{(VOCABULARY, max(SIZES))}. Received: {shapes}"
        )
    network = build_network(size)
    network.set_weights([tensors[TENSOR][:, :size].astype("float32")])
    return network


def build_network(size: int) -> keras.Model:
    """Return the network, its weights random."""
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in (TOKENS, PADDING)
    }
    embedding = layers.Embedding(VOCABULARY, size, name="embedding")
    return keras.Model(inputs, embedding(inputs[TOKENS]), name="wordllama")
