import math
import warnings
from collections.abc import Callable
from typing import Any

from keras_mmrel.backend import upstream
from keras_mmrel.user_warning import warn

MODE = "quantization_mode"


def quantize(model: Any, keras_quantize: Callable[[], None]) -> None:
    """Quantise what Keras can, and say how much it has left.

    Args:
        model: A built model.
        keras_quantize: What Keras does.
    """
    layers = upstream.all_layers(model)
    of_layer = [list(layer.trainable_variables) for layer in layers]
    given = list(model.trainable_variables)
    with warnings.catch_warnings():
        # Of each layer that has no weights of its own, too.
        warnings.filterwarnings("ignore", message=".*does not have a `quant")
        keras_quantize()
    done = {
        id(variable)
        for layer, variables in zip(layers, of_layer, strict=True)
        if getattr(layer, MODE, None)
        for variable in variables
    }
    left = [variable for variable in given if id(variable) not in done]
    if not left:
        return
    largest = sorted(left, key=lambda variable: -math.prod(variable.shape))[:3]
    warn(
        f"`quantize` left {_count(left):,} of {_count(given):,} weights as "
        "they were: their layers know no quantization. The largest are "
        f"{[variable.path for variable in largest]}."
    )


def _count(variables: list[Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def modes(model: Any) -> dict[str, str]:
    """Number of a layer -> how it is quantised, of those that are."""
    found = {
        str(index): getattr(layer, MODE, None)
        for index, layer in enumerate(upstream.all_layers(model))
    }
    return {index: mode for index, mode in found.items() if mode}


def quantize_again(model: Any, saved: dict[str, str]) -> None:
    """Make room for the weights of a saved model that was quantised."""
    layers = upstream.all_layers(model)
    for index, mode in saved.items():
        # A layer of the user's comes quantised of its own config.
        if not getattr(layers[int(index)], MODE, None):
            layers[int(index)].quantize(mode)
