"""Training noise and a quality control round a model that takes neither."""

import inspect
import math
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_mmrel.benchmark._samples import Part
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Layer
from keras_mmrel.contract import Model
from keras_mmrel.contract import map_parts
from keras_mmrel.contract import modality_arrays
from keras_mmrel.contract import rows_of
from keras_mmrel.contract import to_numpy
from keras_mmrel.evaluation._checks import takes_mask

# Samples that the control sees at once.
BATCH = 1024


class Around:
    """What a model whose factory takes no such layers gets from the engine.

    Training batches are corrupted by `augmentation`, anew in every epoch.
    `quality` learns from the clean training part, and stands before the model
    in training and at test; the mask that it announces is handed on to a
    model that takes one.

    Args:
        model: The model.
        augmentation: Layer that the model itself does not have, or `None`.
        quality: Likewise.
        part: Clean training part `(x, y)`.
    """

    def __init__(
        self,
        model: Model,
        augmentation: Layer | None,
        quality: Layer | None,
        part: Part,
    ) -> None:
        self.model = model
        self.augmentation = augmentation
        self.quality = quality
        self.names = [*modality_arrays(part[0])]
        if quality is not None:
            if not hasattr(quality, "adapt"):
                raise ValueError(
                    "`quality` must have `adapt` to stand before a model "
                    f"that does not take it. Received: {quality!r}"
                )
            labelled = "y" in inspect.signature(quality.adapt).parameters
            quality.adapt(*(part if labelled else part[:1]))

    def batches(self, part: Part, size: int, seed: int) -> "_Batches":
        """Return what `fit` trains on instead of a training part."""
        x, y = dict(part[0]), part[1]
        # A pipeline has to bring the side inputs itself.
        for side in getattr(self.model, "side_inputs", ()):
            values = side.default(self.model, x, len(y))
            if values is not None:
                x[side.name] = np.asarray(values, side.dtype)
        return _Batches(x, y, size, seed, self._noisy)

    def _noisy(self, x: Mapping[str, Any]) -> dict[str, Any]:
        inputs = {n: v for n, v in x.items() if n in (*self.names, MASK)}
        if self.augmentation is not None:
            inputs = self.augmentation(inputs, training=True)
        return {**x, **self._controlled(inputs)}

    def inputs(self, x: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the model gets for prediction."""
        if self.quality is None:
            told = takes_mask(self.model)
            return {n: v for n, v in x.items() if told or n != MASK}
        count = len(keras.tree.flatten(dict(x))[0])
        parts = [
            self._controlled(rows_of(x, slice(i, i + BATCH)))
            for i in range(0, count, BATCH)
        ]
        return keras.tree.map_structure(lambda *p: np.concatenate(p), *parts)

    def _controlled(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if self.quality is not None:
            inputs = self.quality(inputs)
        known = [*self.names]
        if takes_mask(self.model):
            known.append(MASK)
        return {
            n: map_parts(to_numpy, v) for n, v in inputs.items() if n in known
        }


class _Batches(keras.utils.PyDataset):
    """A training part in another order, and changed anew, in every epoch."""

    def __init__(
        self,
        x: Mapping[str, Any],
        y: Array,
        size: int,
        seed: int,
        change: Callable,
    ) -> None:
        super().__init__()
        self.x, self.y, self.size, self.change = x, y, size, change
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.y) / self.size)

    def __getitem__(self, index: int) -> Part:
        rows = self.order[index * self.size : (index + 1) * self.size]
        x = rows_of(self.x, rows)
        return self.change(x), self.y[rows]

    def on_epoch_end(self) -> None:
        self.order = self.rng.permutation(len(self.y))
