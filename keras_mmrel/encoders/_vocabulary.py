"""How many tokens an encoder has embeddings for, and which it is given.

No backend says so in one sentence: an unknown token is NaN on one, a negative
one another token, or an error of a framework that may take a GPU with it.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mmrel.backend import upstream
from keras_mmrel.contract import Array
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import is_number
from keras_mmrel.contract import known_values
from keras_mmrel.contract import rows_to_numpy
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import refused

# Key of an encoder that takes one tensor.
WHOLE = ""
# Samples that are looked at together.
CHUNK = 1 << 14
# Operations after which the numbers are still those of tokens.
_PASSING = ("Cast", "GetItem", "Identity", "Reshape", "Squeeze", "ExpandDims")


def vocabularies(layer: keras.layers.Layer) -> dict[str, int]:
    """Return how many numbers each input of a layer may be.

    Args:
        layer: Encoder, block or backbone.

    Returns:
        Name of an input, `""` for a layer of one tensor -> size of the
        vocabulary that it is looked up in. What is not looked up at once, or
        where nobody knows it, is not there.
    """
    own = getattr(layer, "vocabularies", None)
    if isinstance(own, Mapping):
        return dict(own)
    # A backbone has its token embedding as an attribute, and other inputs too.
    size = None if isinstance(layer, keras.Model) else _size_of(layer)
    if size is not None:
        return {WHOLE: size}
    if isinstance(layer, keras.Sequential) and not layer.built:
        return vocabularies(layer.layers[0]) if layer.layers else {}
    try:
        inputs = layer.input
    except (AttributeError, ValueError):
        return {}
    if isinstance(inputs, list | tuple):
        inputs = dict(enumerate(inputs)) if inputs[1:] else inputs[0]
    named = inputs if isinstance(inputs, Mapping) else {WHOLE: inputs}
    sizes = {name: _size_behind(layer, x) for name, x in named.items()}
    return {name: size for name, size in sizes.items() if size is not None}


def _size_of(layer: Any) -> int | None:
    """Size of the vocabulary of a layer that is an embedding, or holds one."""
    # A layer of keras-hub has positions beside it.
    layer = getattr(layer, "token_embedding", layer)
    if isinstance(layer, keras.layers.Embedding):
        return int(layer.input_dim)
    return None


def _size_behind(network: Any, tensor: Any) -> int | None:
    """Smallest vocabulary that an input of a graph of layers is looked up in.

    A network of keras-hub has its token embedding as an attribute, too; what
    reads a tensor tells it from that of positions or segments.
    """
    sizes = []
    for operation, outputs in upstream.readers(network, tensor):
        if type(operation).__name__ in _PASSING:
            sizes.append(_size_behind(network, outputs[0]))
        elif isinstance(operation, keras.Sequential):
            sizes.append(vocabularies(operation).get(WHOLE))
        else:
            sizes.append(_size_of(operation))
    return min((size for size in sizes if size is not None), default=None)


def unknown(x: Tensor, size: int) -> Tensor:
    """Where numbers, of NumPy or of a backend, are none of a vocabulary."""
    return (x < 0) | (x >= size)


def known_tokens(value: Any, sizes: Mapping[str, int]) -> Tensor | None:
    """Say which samples hold nothing but numbers of their vocabularies.

    Args:
        value: Tensor `(batch, ...)`, or a dict of them.
        sizes: What `vocabularies` returns.

    Returns:
        Booleans `(batch,)`, or `None` where there is no vocabulary.
    """
    known = None
    for name, size in sizes.items():
        x = tokens_of(value, name)
        if x is None:
            continue
        wrong = unknown(ops.cast(x, "float32"), size)
        axes = tuple(range(1, len(wrong.shape)))
        good = ops.logical_not(ops.any(wrong, axis=axes) if axes else wrong)
        known = good if known is None else known & good
    return known


def tokens_of(value: Any, name: str) -> Any:
    """Return the tensor of a modality that an input of its encoder takes."""
    if isinstance(value, Mapping):
        return value.get(name)
    return value if name == WHOLE else None


def expected_tokens(title: str, name: str, size: int) -> str:
    """Return what a modality must hold.

    Args:
        title: What a message calls the modality.
        name: Name of the input of its encoder.
        size: Size of the vocabulary.
    """
    part = f" in '{name}'" if name else ""
    return (
        f"{title} must hold numbers from 0 to {size - 1}{part}, the {size} of "
        "its vocabulary"
    )


def check_tokens(
    title: str,
    value: Any,
    sizes: Mapping[str, int],
    present: Array | None = None,
    rows: int | None = None,
) -> None:
    """Refuse numbers that no vocabulary has.

    Args:
        title: What a message calls the modality.
        value: Array or tensor `(samples, ...)`, or a dict of them.
        sizes: What `vocabularies` returns.
        present: Booleans `(samples,)`, who has the modality, or `None`.
        rows: Number of the first samples that are looked at, or `None`.
    """
    for name, size in sizes.items():
        x = tokens_of(value, name)
        shape: Any = getattr(x, "shape", ())
        # What is no array of numbers is refused somewhere else.
        if not len(shape) or not is_number(rows_to_numpy(x, slice(1)).dtype):
            continue
        others, first = 0, 0.0
        count = min(shape[0], rows or shape[0])
        for start in range(0, count, CHUNK):
            some = slice(start, min(start + CHUNK, count))
            numbers = rows_to_numpy(x, some)
            if present is not None:
                numbers = numbers[present[some]]
            wrong = numbers[unknown(numbers, size)]
            first = wrong[0] if len(wrong) and not others else first
            others += len(wrong)
        if others:
            raise refused(
                expected_tokens(title, name, size),
                f"{others} others, such as {first:g}",
            )


class LookupLayer(TensorLayer):
    """Base of layers that look numbers of tokens up.

    Called by themselves they refuse others; inside a model it has seen to
    that, and no step is to wait for values.
    """

    @property
    def vocabularies(self) -> dict[str, int]:
        """Name of an input, `""` for the only one -> numbers that it may be."""
        raise NotImplementedError

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not upstream.in_a_call():
            known = keras.tree.map_structure(known_values, inputs)
            check_tokens("`inputs`", known, self.vocabularies)
        return super().__call__(inputs, *args, **kwargs)
