"""Batches in which what is absent is a missing modality."""

from collections.abc import Mapping
from typing import Any

from keras_mmrel.absent import with_absent
from keras_mmrel.contract import MASK
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Modalities
from keras_mmrel.models import pipelines


def filled_batch(
    data: DataSource, x: Modalities, shapes: Mapping[str, Any]
) -> Modalities:
    """Return the first batch of a pipeline, as `with_absent` does.

    Args:
        data: The pipeline.
        x: Inputs of its first batch.
        shapes: As in `with_absent`.

    Raises:
        ValueError: If nobody could do so with the batches that follow.
    """
    filled = with_absent(x, shapes)
    if filled is not x and not pipelines.is_rewritten(data):
        absent = [name for name in shapes if name not in x]
        raise ValueError(
            f"Batches of a {type(data).__name__} must have all modalities, "
            f"zeros for a missing one and a 0 for it in '{MASK}'; a "
            "`PyDataset` and a generator may lack it. Received: batches "
            f"without {absent}"
        )
    return filled
