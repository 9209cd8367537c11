from collections.abc import Sequence

import keras

from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Names
from keras_mmrel.constraints import constrained


@constrained(
    backbone=Instance(keras.Model, "a functional `keras.Model`"),
    layer_names=Names(),
)
def split_backbone(
    backbone: keras.Model, layer_names: Sequence[str]
) -> list[keras.Model]:
    """Cut a functional backbone into blocks, for an encoder made of blocks.

    Each named layer ends a block. The cut must go through one tensor: take
    the outputs of whole stages, where no skip connection crosses. What comes
    after the last named layer is left out. The blocks share the weights of
    the backbone.

    Args:
        backbone: Functional `keras.Model` with one input, from
            `keras.applications` or keras-hub for example.
        layer_names: Names of the layers whose outputs end the blocks, in
            order.

    Returns:
        List of `keras.Model`, one a block.

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
    tensor = backbone.inputs[0] if backbone.inputs else backbone.input
    blocks = []
    for index, name in enumerate(layer_names):
        output = known[name].output
        try:
            block = keras.Model(tensor, output, name=f"block_{index}")
        except ValueError as error:
            raise ValueError(
                "`layer_names` must cut the backbone through one tensor at "
                f"each name. Received: '{name}', which needs more than the "
                "output of the name before it"
            ) from error
        blocks.append(block)
        tensor = output
    return blocks
