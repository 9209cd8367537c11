import dataclasses
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from keras_mmrel.contract import Array
from keras_mmrel.contract import Modalities
from keras_mmrel.models.seen_values import SeenValues


def _accept(model: Any, values: Any) -> None:
    """Take any value."""


def _no_default(model: Any, x: Modalities, samples: int) -> None:
    """Leave the input out."""


def _optional(model: Any) -> bool:
    return False


@dataclasses.dataclass(frozen=True)
class SideInput:
    """What a method takes in training beside modalities, one value a sample.

    A model declares its side inputs in the class attribute `side_inputs`; the
    base does the rest. The values stand in the dict of inputs under `name`,
    are never taken for a modality, are checked in `fit` and
    `train_on_batch`, and reach losses and statistics in the training record,
    under the same name. Prediction and evaluation ignore them.

    Args:
        name: Key of the input, which no modality may have.
        dtype: Dtype of the values.
        check: Function of the model and an array `(samples,)` that raises
            `ValueError` for values that it cannot take.
        check_whole: Likewise, for what must hold over all samples of a `fit`
            with in-memory data, though not in each batch.
        check_seen: Likewise, a function of the model and a
            `keras_mmrel.models.seen_values.SeenValues`, for
            what must hold over each epoch of a training on anything.
        default: Function of the model, the inputs and the number of samples
            that returns the values which `fit` adds to in-memory data without
            them, or `None` to add none.
        required: Function of the model: whether a training step needs them.
        missing: What an error about required ones ends with, a hint.
        instead_of: Names of others that it must not be given beside.

    Example:

    >>> side = keras_mmrel.models.SideInput("difficulty", "float32")
    >>> class Curriculum(keras_mmrel.ConcatFusion):
    ...     side_inputs = (side,)
    """

    name: str
    dtype: str
    check: Callable[[Any, Array], None] = _accept
    check_whole: Callable[[Any, Array], None] = _accept
    check_seen: Callable[[Any, SeenValues], None] = _accept
    default: Callable[[Any, Modalities, int], Array | None] = _no_default
    required: Callable[[Any], bool] = _optional
    missing: str = ""
    instead_of: Sequence[str] = ()
