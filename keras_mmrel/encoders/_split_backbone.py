from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_mmrel.backend import upstream
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Names
from keras_mmrel.constraints import constrained
from keras_mmrel.encoders._carrying_block import CarryingBlock


@constrained(
    backbone=Instance(keras.Model, "a functional `keras.Model`"),
    layer_names=Names(),
)
def split_backbone(
    backbone: keras.Model, layer_names: Sequence[str]
) -> list[keras.layers.Layer]:
    """Cut a functional backbone into blocks, for an encoder made of blocks.

    Each named layer ends a block. The cut must go through one tensor: take
    the outputs of whole stages, where no skip connection crosses. What comes
    after the last named layer is left out. The blocks share the weights of
    the backbone.

    A backbone that takes a dict of inputs, such as a transformer with the mask
    of a text's padding, is cut as well: the inputs go along from block to
    block, in a dict beside the `"features"`.

    Args:
        backbone: Functional `keras.Model` with one input or a dict of them,
            from `keras.applications` or keras-hub for example.
        layer_names: Names of the layers whose outputs end the blocks, in
            order.

    Returns:
        List of layers, one a block: `keras.Model`s where there is one input.

    Raises:
        ValueError: If a name is no layer of the backbone, or a cut goes
            through more than one tensor.

    Example:

    >>> backbone = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 3)),
    ...         keras.layers.Conv2D(8, 3, name="one"),
    ...         keras.layers.Conv2D(16, 3, name="two"),
    ...     ]
    ... )
    >>> blocks = keras_mmrel.encoders.split_backbone(backbone, ["one", "two"])
    >>> [block.output_shape for block in blocks]
    [(None, 6, 6, 8), (None, 4, 4, 16)]
    """
    known = {layer.name: layer for layer in backbone.layers}
    for name in layer_names:
        if name not in known:
            raise ValueError(
                "`layer_names` must name layers of the backbone "
                f"({list(known)}). Received: '{name}'"
            )
    given = (graph_ends(backbone) or (backbone.input,))[0]
    named = list(given) if isinstance(given, Mapping) else []
    ends = [known[name].output for name in layer_names]
    inputs = [given]
    if named:
        # Keras changes the inputs of a graph that a graph within it shares.
        copy = _copy(keras.Model(list(given.values()), ends))
        inputs, ends = copy.inputs, copy.outputs
    tensor: Any = None
    blocks: list[keras.layers.Layer] = []
    used: set[int] = set()
    for index, (name, output) in enumerate(zip(layer_names, ends, strict=True)):
        taken = [*([] if tensor is None else [tensor]), *inputs]
        if not named:
            taken = taken[0]
        try:
            block = keras.Model(taken, output, name=f"block_{index}")
        except ValueError as error:
            raise _crossing(name) from error
        own = {id(weight) for weight in block.weights}
        # The backbone's inputs are at hand, from which it would begin anew.
        if used & own:
            raise _crossing(name)
        used |= own
        if named:
            first = tensor is None
            block = CarryingBlock(
                _copy(block), named, first, name=f"block_{index}"
            )
        blocks.append(block)
        tensor = output
    return blocks


def _copy(model: keras.Model) -> keras.Model:
    """A graph of its own, of the same layers."""
    return keras.models.clone_model(model, clone_function=lambda layer: layer)


def _crossing(name: str) -> ValueError:
    return ValueError(
        "`layer_names` must cut the backbone through one tensor at each "
        f"name. Received: '{name}', which needs more than the output of the "
        "name before it"
    )


def graph_ends(layer: keras.layers.Layer) -> tuple[Any, Any] | None:
    """Inputs and outputs of a graph of layers; `None` for another layer."""
    if isinstance(layer, keras.Sequential):
        inputs = getattr(layer, "inputs", None)
        return (inputs[0], layer.outputs[0]) if inputs else None
    try:
        return layer.input, layer.output
    except (AttributeError, ValueError):
        return None


def natural_blocks(encoder: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the blocks that an encoder is made of, none if nobody knows.

    These are its own; or the layers of a built `keras.Sequential` that have a
    kernel, each with what follows it; or what `natural_cuts` makes of a graph.
    """
    own = getattr(encoder, "blocks", None)
    if isinstance(own, list | tuple) and own:
        return list(own)
    if isinstance(encoder, keras.Sequential):
        return _sequential_blocks(encoder) if graph_ends(encoder) else []
    try:
        names = natural_cuts(encoder)
        return split_backbone(encoder, names) if names else []  # type: ignore[arg-type]
    except ValueError:
        return []


def _sequential_blocks(model: keras.Sequential) -> list[keras.layers.Layer]:
    groups: list[list] = [list(model.inputs)]
    complete = False
    for layer in model.layers:
        has_kernel = any(len(weight.shape) > 1 for weight in layer.weights)
        if has_kernel and complete:
            groups.append([])
        groups[-1].append(layer)
        complete = complete or has_kernel
    return [
        keras.Sequential(group, name=f"block_{index}")
        for index, group in enumerate(groups)
    ]


def natural_cuts(network: keras.layers.Layer) -> list[str]:
    """Names of layers after which a backbone can be cut, the last one too.

    These are the stages of a convolutional backbone of keras-hub, or the
    longest run of layers of one class, as a transformer has them. Where there
    is neither, a backbone of several inputs is one block, which hands them
    on, and the list is empty for any other.
    """
    ends = graph_ends(network)
    if ends is None:
        return []
    end = upstream.made_by(ends[1])
    layers = [layer for layer in network.layers if layer.weights]
    pyramid = getattr(network, "pyramid_outputs", None)
    if pyramid:
        cuts = [upstream.made_by(t) for t in pyramid.values()]
    else:
        cuts = _longest_run(layers)
    if not cuts and not isinstance(ends[0], Mapping):
        return []
    return [*(name for name in cuts if name != end), end]


def _longest_run(layers: Sequence[keras.layers.Layer]) -> list[str]:
    best: list[str] = []
    run: list[str] = []
    kind = None
    for layer in layers:
        if type(layer) is not kind:
            kind, run = type(layer), []
        run.append(layer.name)
        if len(run) > max(len(best), 1):
            best = list(run)
    return best
