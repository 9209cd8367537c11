"""What the encoders round a pretrained backbone share."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_mmrel._presets import PRESET
from keras_mmrel._presets import from_preset
from keras_mmrel.backend import upstream
from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Constraint
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Integer
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders._pooling import masked_mean
from keras_mmrel.encoders._pooling import usable_mask
from keras_mmrel.encoders._positions import check_steps
from keras_mmrel.encoders._positions import positions
from keras_mmrel.encoders._split_backbone import graph_ends
from keras_mmrel.encoders._split_backbone import natural_blocks
from keras_mmrel.encoders._vocabulary import LookupLayer
from keras_mmrel.encoders._vocabulary import vocabularies
from keras_mmrel.encoders.block_encoder import symbolic_outputs
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import describe
from keras_mmrel.tensor_layer import refusing

# What a backbone of several outputs calls what it makes of its inputs.
OUTPUTS = ("sequence_output", "encoder_sequence_output")

BACKBONE = Either(Instance(keras.layers.Layer, "a `keras.Layer`"), PRESET)

OPTIONS: dict[str, Constraint] = {
    "fine_tune": Either(Choice("all", "none", "lora"), Integer(1)),
    "lora_rank": SIZE,
    "pooling": Choice("mean", "first"),
    "output_key": Either(Instance(str, "a string"), None),
}


class BackboneEncoder(LookupLayer):
    """Base: a front that prepares inputs, a backbone, and pooling.

    Args:
        backbone: Backbone, or the name of a preset of keras-hub.
        front: Layer from what a modality holds to what the backbone takes.
        inputs: Inputs of the backbone that are used, by name; `None` for all.
        fine_tune: What of the backbone learns.
        lora_rank: Rank of what learns with `"lora"`.
        pooling: How positions become one feature.
        output_key: Which output is used, where there are several.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        backbone: keras.layers.Layer | str,
        front: keras.layers.Layer,
        inputs: Sequence[str] | None = None,
        *,
        fine_tune: str | int = "all",
        lora_rank: int = 4,
        pooling: str = "mean",
        output_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        # The front casts: numbers of tokens are not to be rounded.
        super().__init__(autocast=False, **kwargs)
        self.fine_tune = fine_tune
        self.lora_rank = lora_rank
        self.pooling = pooling
        self.output_key = output_key
        backbone = load_backbone(backbone)
        # The whole of it is saved, and the part that is used is kept.
        self.positions = positions(backbone, (inputs or [""])[0])
        self._backbone_config = keras.saving.serialize_keras_object(backbone)
        if fine_tune == "lora":
            enable_lora(backbone, lora_rank)
        self.front = front
        self.backbone = used_network(backbone, inputs, output_key)
        if fine_tune != "lora":
            freeze(self.backbone, fine_tune)

    @property
    def vocabularies(self) -> dict[str, int]:
        """Name of an input -> how many numbers it may be."""
        return vocabularies_before(self.front, self.backbone)

    def build(self, input_shape: Any) -> None:
        build_all([self.front, self.backbone], input_shape)

    @property
    def blocks(self) -> list[keras.layers.Layer]:
        """The encoder as blocks, one after the other, that share its weights.

        Their mean over positions is its feature, where `pooling` is `"mean"`.
        """
        first, *rest = natural_blocks(self.backbone) or [self.backbone]
        return [FrontedBlock(self.front, first, name="block_0"), *rest]

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        taken = self.front(inputs)
        first = keras.tree.flatten(taken)[0]
        check_steps(self.positions, first.shape[1:], "inputs")
        with refusing(
            f"`inputs` must be what the backbone '{self.backbone.name}' takes",
            describe(inputs),
        ):
            # Nothing of a frozen backbone is to vary.
            frozen = self.fine_tune == "none"
            outputs = self.backbone(taken, training=training and not frozen)
        if len(outputs.shape) < 3:
            return outputs
        if self.pooling == "first":
            return outputs[(slice(None), *[0] * (len(outputs.shape) - 2))]
        return masked_mean(outputs, self._mask(inputs, outputs))

    def _mask(self, inputs: Any, outputs: Tensor) -> Tensor | None:
        if not isinstance(inputs, Mapping):
            return None
        return usable_mask(inputs.get("padding_mask"), outputs)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "backbone": self._backbone_config,
            "fine_tune": self.fine_tune,
            "lora_rank": self.lora_rank,
            "pooling": self.pooling,
            "output_key": self.output_key,
        }

    @classmethod
    def from_config(cls, config: dict) -> Any:
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**{**config, "backbone": backbone})


@keras.saving.register_keras_serializable(package="keras_mmrel")
class FrontedBlock(TensorLayer):
    """A block that takes what a front makes of the inputs.

    Args:
        front: Layer.
        block: Layer.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        front: keras.layers.Layer,
        block: keras.layers.Layer,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.front = front
        self.block = block

    @property
    def input_shape(self) -> Any:
        """Shape that the front takes, batch axis included."""
        return self.front.input_shape

    @property
    def vocabularies(self) -> dict[str, int]:
        """Name of an input -> how many numbers it may be."""
        return vocabularies_before(self.front, self.block)

    def build(self, input_shape: Any) -> None:
        build_all([self.front, self.block], input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.block(self.front(inputs), training=training)

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "front": serialize(self.front),
            "block": serialize(self.block),
        }

    @classmethod
    def from_config(cls, config: dict) -> "FrontedBlock":
        restore = keras.saving.deserialize_keras_object
        parts = {name: restore(config[name]) for name in ("front", "block")}
        return cls(**{**config, **parts})


def vocabularies_before(
    front: keras.layers.Layer, layer: keras.layers.Layer
) -> dict[str, int]:
    """Return the vocabularies of a layer, named as a front before it does."""
    given = getattr(front, "given_names", {})
    return {
        given[name]: size
        for name, size in vocabularies(layer).items()
        if name in given
    }


def build_all(layers: Sequence[keras.layers.Layer], input_shape: Any) -> None:
    """Build layers, each for what the one before it returns."""
    if not all(layer.built for layer in layers):
        for _ in symbolic_outputs(layers, input_shape):
            pass


def load_backbone(backbone: keras.layers.Layer | str) -> keras.layers.Layer:
    """Return a backbone, of a preset of keras-hub where it is a name."""
    if not isinstance(backbone, str):
        return backbone
    return from_preset(
        "backbone",
        "a `keras.Layer`",
        backbone,
        lambda hub: hub.models.Backbone.from_preset(backbone),
    )


def input_shapes(backbone: keras.layers.Layer) -> Any:
    """Shape of a backbone's input, or a dict of such; `None` if unknown."""
    ends = graph_ends(backbone)
    if ends is None:
        return None
    if isinstance(ends[0], Mapping):
        return {name: tuple(x.shape) for name, x in ends[0].items()}
    return tuple(ends[0].shape)


def known_sizes(
    shape: Any,
    given: Sequence[int] | None,
    argument: str,
) -> tuple[int, ...]:
    """Return the sizes of one sample.

    Args:
        shape: What the backbone says, batch axis included, or `None`; a dict
            of such is refused.
        given: What the user says, without it.
        argument: Name of that argument.

    Raises:
        ValueError: If they differ, or nobody says it.
    """
    if isinstance(shape, Mapping):
        raise ValueError(
            "`backbone` must take one tensor; one of texts goes into "
            "`keras_mmrel.encoders.TextEncoder`. Received: a backbone that "
            f"takes {sorted(shape)}"
        )
    own = None if shape is None else tuple(shape)[1:]
    sizes = tuple(given) if given is not None else own
    if sizes is None or None in sizes:
        raise ValueError(
            f"`{argument}` must be given where the backbone leaves sizes open, "
            f"as this one with {own}. Received: {argument}={given}"
        )
    if own is not None and (
        len(own) != len(sizes)
        or any(o not in (None, s) for o, s in zip(own, sizes, strict=True))
    ):
        raise ValueError(
            f"`{argument}` must fit what the backbone takes, {own}. Received: "
            f"{argument}={given}"
        )
    return sizes  # type: ignore[return-value]


def used_network(
    backbone: keras.layers.Layer,
    inputs: Sequence[str] | None,
    output_key: str | None,
) -> keras.layers.Layer:
    """Return the part of a backbone from some inputs to one output."""
    ends = graph_ends(backbone)
    if ends is None:
        return backbone
    given, outputs = ends
    if isinstance(outputs, Mapping):
        keys = [output_key] if output_key else OUTPUTS
        key = next((key for key in keys if key in outputs), None)
        if key is None:
            raise ValueError(
                "`output_key` must name an output of the backbone "
                f"({sorted(outputs)}). Received: output_key={output_key!r}"
            )
        outputs = outputs[key]
    elif output_key is not None:
        raise ValueError(
            "`output_key` must be None, since the backbone returns no dict. "
            f"Received: output_key={output_key!r}"
        )
    if inputs is not None and isinstance(given, Mapping):
        if set(inputs) != set(given):
            given = {name: given[name] for name in inputs}
        if len(given) == 1:
            given = next(iter(given.values()))
    if given is ends[0] and outputs is ends[1]:
        return backbone
    return keras.Model(given, outputs, name=backbone.name)


def enable_lora(backbone: keras.layers.Layer, rank: int) -> None:
    """Let small factors of attention's kernels learn, and nothing else."""
    names = []
    if hasattr(backbone, "enable_lora"):
        names = backbone.default_lora_layer_names()
    taking = [
        layer
        for layer in _all_parts(backbone)
        if layer.name in names and hasattr(layer, "enable_lora")
    ]
    received = f"fine_tune='lora' and {type(backbone).__name__}"
    if not taking:
        raise ValueError(
            "`fine_tune` must be 'all', 'none' or a number of layers where a "
            f"backbone has no attention that takes LoRA. Received: {received}"
        )
    if any(getattr(layer, "lora_enabled", False) for layer in taking):
        raise ValueError(
            "`backbone` must have no LoRA yet, since a kernel takes it once. "
            f"Received: {received} with LoRA"
        )
    backbone.enable_lora(rank)


def _all_parts(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    parts = list(upstream.sublayers(layer))
    return [*parts, *(p for part in parts for p in _all_parts(part))]


def freeze(network: keras.layers.Layer, kept: str | int) -> None:
    """Freeze all but the last layers with weights, `"all"` or `"none"`.

    A layer that stacks layers of one class, such as the encoder of a vision
    transformer, counts as these.
    """
    parts = stacked_parts(network)
    last = {"all": len(parts), "none": 0}.get(str(kept), kept)
    for index, part in enumerate(parts):
        part.trainable = index >= len(parts) - int(last)


def stacked_parts(network: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return a backbone's layers with weights, in order."""
    if not isinstance(network, keras.Model):
        return [network]
    parts = []
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            parts += stacked_parts(layer)
        elif layer.weights:
            parts += _inner_stack(layer) or [layer]
    return parts


def _inner_stack(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the parts of a layer that is a stack of layers of one class."""
    parts = [part for part in upstream.sublayers(layer) if part.weights]
    kinds = [type(part) for part in parts if upstream.sublayers(part)]
    all_of_it = sum(len(p.weights) for p in parts) == len(layer.weights)
    return parts if len(kinds) > 1 == len(set(kinds)) and all_of_it else []
