from collections.abc import Mapping
from typing import Any

import keras

from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import constrained
from keras_mmrel.encoders._backbone_encoder import BACKBONE
from keras_mmrel.encoders._backbone_encoder import OPTIONS
from keras_mmrel.encoders._backbone_encoder import BackboneEncoder
from keras_mmrel.encoders._backbone_encoder import input_shapes
from keras_mmrel.encoders._backbone_encoder import load_backbone
from keras_mmrel.encoders._positions import check_steps
from keras_mmrel.encoders._positions import positions
from keras_mmrel.encoders._token_inputs import PADDING
from keras_mmrel.encoders._token_inputs import SEGMENTS
from keras_mmrel.encoders._token_inputs import TOKENS
from keras_mmrel.encoders._token_inputs import TokenInputs


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(backbone=BACKBONE, length=SIZE, segment_ids=Flag(), **OPTIONS)
class TextEncoder(BackboneEncoder):
    """Encode a text with a transformer, pretrained or not.

    Takes token numbers and the mask of their padding as
    `keras_mmrel.media.Text` makes them with what belongs to the same
    backbone: `media.Text(..., tokenizer=preset)` takes its name.
    Padding takes no part: the same tokens, padded to another length, have the
    same feature. Of a backbone with encoder and decoder the encoder is used.

    Args:
        backbone: `keras.Model` that takes a dict of `"token_ids"` and
            `"padding_mask"` (and `"segment_ids"`), of keras-hub for example,
            or the name of a preset of keras-hub, which is downloaded.
        length: Tokens of a text, padding included.
        segment_ids: Whether inputs have `"segment_ids"`, as the preprocessors
            of some backbones make them; else they are 0 for such a backbone.
        fine_tune: As in `keras_mmrel.encoders.ImageEncoder`.
        lora_rank: Likewise.
        pooling: `"mean"` over all tokens that are no padding, or `"first"`,
            where a class token stands.
        output_key: Which output to take where the backbone returns a dict; by
            default its sequence.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Dict of `"token_ids"` and `"padding_mask"`, both
            `(batch, length)`, 1 for what is no padding.
        training: Passed on to the backbone.

    Returns:
        Tensor of shape `(batch, d)`. It is 0 where all is padding, if it is
        a mean.

    Raises:
        ValueError: If a preset cannot be had, the backbone takes other inputs,
            has fewer positions than `length` or no attention for LoRA, or an
            argument is outside its range; in a call by itself, if a number of
            a token is none of the backbone's vocabulary.
        ImportError: If a preset is named and keras-hub is not installed.

    Example:

    >>> tokens = keras.Input((None,), dtype="int32", name="token_ids")
    >>> mask = keras.Input((None,), dtype="int32", name="padding_mask")
    >>> backbone = keras.Model(
    ...     {"token_ids": tokens, "padding_mask": mask},
    ...     keras.layers.Embedding(100, 4)(tokens),
    ... )
    >>> encoder = keras_mmrel.encoders.TextEncoder(backbone, length=6)
    >>> x = {"token_ids": np.ones((2, 6)), "padding_mask": np.ones((2, 6))}
    >>> encoder(x).shape
    (2, 4)
    """

    def __init__(
        self,
        backbone: keras.layers.Layer | str,
        length: int,
        *,
        segment_ids: bool = False,
        fine_tune: str | int = "all",
        lora_rank: int = 4,
        pooling: str = "mean",
        output_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.length = length
        self.segment_ids = segment_ids
        backbone = load_backbone(backbone)
        names = _input_names(backbone)
        check_steps(positions(backbone, names[0]), (length,), "length")
        super().__init__(
            backbone,
            TokenInputs(names, length, segment_ids, name="front"),
            names,
            fine_tune=fine_tune,
            lora_rank=lora_rank,
            pooling=pooling,
            output_key=output_key,
            **kwargs,
        )

    @property
    def input_shape(self) -> dict[str, tuple]:
        """Shapes that are taken, batch axis included."""
        return self.front.input_shape

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "length": self.length,
            "segment_ids": self.segment_ids,
        }


def _input_names(backbone: keras.layers.Layer) -> list[str]:
    """Names that a backbone has for tokens, their mask, and segments."""
    shapes = input_shapes(backbone)
    known = shapes if isinstance(shapes, Mapping) else {}
    names = [
        next((n for n in (name, f"encoder_{name}") if n in known), None)
        for name in (TOKENS, PADDING, SEGMENTS)
    ]
    if None in names[:2]:
        raise ValueError(
            "`backbone` must take a dict with 'token_ids' and 'padding_mask'. "
            f"Received: {type(backbone).__name__} of {list(known) or shapes}"
        )
    return [name for name in names if name is not None]
