from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import MASK
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import known_values
from keras_mmrel.contract import rows_to_numpy
from keras_mmrel.encoders._vocabulary import check_tokens
from keras_mmrel.encoders._vocabulary import expected_tokens
from keras_mmrel.encoders._vocabulary import known_tokens
from keras_mmrel.encoders._vocabulary import vocabularies


class TokenNumbers:
    """What the modalities may hold whose encoders look numbers up.

    It holds no model, so that processes that draw batches can have a copy.

    Attributes:
        sizes: Modality -> name of an input of its encoder -> how many numbers
            it may be.

    Args:
        specs: Modality -> its encoder, or its shape.
    """

    def __init__(self, specs: ModalitySpecs) -> None:
        self.names = list(specs)
        self.sizes = {
            name: sizes
            for name, spec in specs.items()
            if isinstance(spec, keras.layers.Layer)
            and (sizes := vocabularies(spec))
        }

    def check(self, inputs: Mapping[str, Any], rows: int | None = None) -> None:
        """Refuse numbers that an encoder has nothing for.

        Args:
            inputs: Checked dict of arrays, maybe with a mask.
            rows: Number of the first samples that are looked at, or `None`.
        """
        for name, sizes in self.sizes.items():
            present = None
            if inputs.get(MASK) is not None:
                column = rows_to_numpy(inputs[MASK], slice(rows))
                present = column[:, self.names.index(name)] > 0
            title = f"Modality '{name}'"
            check_tokens(title, inputs[name], sizes, present, rows)

    def check_known(self, inputs: Modalities) -> None:
        """Refuse what a call gets, its mask too, as far as it is known."""
        known = {
            name: keras.tree.map_structure(known_values, inputs[name])
            for name in (MASK, *self.sizes)
            if inputs.get(name) is not None
        }
        if known.get(MASK) is not None:
            check_mask_values(known[MASK])
        self.check(known)

    def present(self, tensors: Modalities, present: Sequence[Tensor]) -> list:
        """Return who has each modality, with 0 where a number is unknown.

        So no step fails at a number that there is nothing for.

        Args:
            tensors: Dict of all modalities.
            present: `(batch,)` for each of them.
        """
        made = list(present)
        for name, sizes in self.sizes.items():
            known = known_tokens(tensors[name], sizes)
            if known is not None:
                index = self.names.index(name)
                made[index] = ops.where(known, made[index], 0.0)
        return made

    def expected(self) -> dict[int, str]:
        """Return column of the mask -> what its modality must hold."""
        return {
            self.names.index(name): expected_tokens(
                f"Modality '{name}'", *next(iter(sizes.items()))
            )
            for name, sizes in self.sizes.items()
        }
