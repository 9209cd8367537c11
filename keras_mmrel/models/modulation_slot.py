import threading
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_mmrel import backend
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import Variables
from keras_mmrel.modulations.gradient_modulation import INPUTS
from keras_mmrel.modulations.gradient_modulation import GradientModulation


class ModulationSlot(keras.layers.Layer):
    """Holds the modulation of a model, if there is one, and asks it.

    A modulation has weights and comes with `compile`, when the model's own
    state is locked already. This layer has no `build`, so its state is not.

    Args:
        encoders: Function that returns the encoders, one a modality, whose
            variables a modulation may touch.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        encoders: Callable[[], Sequence[keras.layers.Layer]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"name": "modulation_slot", **kwargs})
        self._encoders = encoders
        self.held: list[GradientModulation] = []
        # What the step that is being traced has added to its loss. TensorFlow
        # traces that of each replica in a thread of its own, in turns.
        self._step = threading.local()
        # Keras calls a model with unbuilt layers anew before each `predict`.
        self.built = True

    @property
    def modulation(self) -> GradientModulation | None:
        return self.held[0] if self.held else None

    def put(self, modulation: GradientModulation | None, model: Any) -> None:
        """Take a modulation in place of the one that is there."""
        if modulation is not None:
            modulation.setup(model)
        self.held.clear()
        if modulation is not None:
            self.held.append(modulation)

    # -- Whose variable is it ------------------------------------------------

    def owners(self, variables: Variables) -> list[int | None]:
        """Index of the modality whose encoder owns a variable, or `None`."""
        owner = {
            id(v): index
            for index, encoder in enumerate(self._encoders())
            for v in encoder.trainable_variables
        }
        return [owner.get(id(v)) for v in variables]

    def groups(
        self, names: Sequence[str], variables: Variables
    ) -> dict[str, list[Any]]:
        """Return modality name, or `"fusion"` -> its variables."""
        groups: dict[str, list] = {name: [] for name in (*names, "fusion")}
        for variable, owner in zip(
            variables, self.owners(variables), strict=True
        ):
            groups["fusion" if owner is None else names[owner]].append(variable)
        return groups

    # -- In a training step --------------------------------------------------

    def record(self, x: Any) -> dict[str, Any]:
        """Return what the training record holds for the modulation."""
        if self.modulation is None or not self.modulation.sees_inputs:
            return {}
        return {INPUTS: x}

    def modulate_outputs(
        self,
        labels: Tensor,
        outputs: Outputs,
        sample_weight: Tensor,
        clock: Any,
    ) -> tuple[Outputs, Tensor]:
        """Begin a step: let the modulation edit what its losses see."""
        if self.modulation is None:
            return outputs, sample_weight
        self.modulation.begin_step(clock)
        return self.modulation.modulate_outputs(labels, outputs, sample_weight)

    def update(self, labels: Tensor, outputs: Outputs) -> None:
        """Let the modulation take over the coefficients of this step."""
        if self.modulation is not None:
            self.modulation.update(labels, outputs)

    def _defines(self, method: str) -> bool:
        own = getattr(type(self.modulation), method, None)
        return own not in (None, getattr(GradientModulation, method))

    @property
    def adds_loss(self) -> bool:
        """Whether the modulation adds a loss."""
        return self._defines("added_loss")

    @property
    def splits_gradients(self) -> bool:
        """Whether the train step has to give gradients of an added loss."""
        return self.adds_loss and self._defines("merge_gradients")

    def add_loss(
        self,
        loss: Tensor,
        labels: Tensor,
        outputs: Outputs,
        sample_weight: Tensor,
    ) -> Tensor:
        """Add the modulation's own loss, and keep it for the train step."""
        if not self.adds_loss:
            return loss
        assert self.modulation is not None
        added = self.modulation.added_loss(labels, outputs, sample_weight)
        added = backend.replica_share(added)
        if self.splits_gradients:
            self._step.added = added
        return loss + added

    def take_added_loss(self) -> Tensor:
        """Return what `add_loss` has added in this step."""
        added = self._step.added
        del self._step.added
        return added

    def edit_gradients(
        self,
        gradients: Sequence[Tensor],
        variables: Variables,
        added: Sequence[Tensor] | None = None,
    ) -> Sequence[Tensor]:
        """Edit the gradients of one step; `None` passes through.

        Args:
            gradients: One a variable, of the (loss-scaled) loss.
            variables: The trainable variables.
            added: Those of the added loss, if there is one.
        """
        if self.modulation is None:
            return gradients
        owners = self.owners(variables)
        if added is not None:
            gradients = self.modulation.merge_gradients(
                gradients, added, variables, owners
            )
        return self.modulation.modulate_gradients(gradients, variables, owners)

    @property
    def edits_updates(self) -> bool:
        """Whether the train step has to call `edit_updates`."""
        return self.modulation is not None and self.modulation.edits_updates

    def edit_updates(
        self,
        old: Sequence[Tensor],
        new: Sequence[Tensor],
        variables: Variables,
        optimizer: Any,
    ) -> Sequence[Tensor]:
        """Edit what the optimizer did to the weights in one step.

        Args:
            old: Values before the optimizer's step, one a variable.
            new: Values after it.
            variables: The trainable variables, in the same order.
            optimizer: The model's optimizer.
        """
        modulation = self.modulation
        assert modulation is not None
        owners = modulation.touched(variables, self.owners(variables))
        return modulation.modulate_updates(old, new, owners, optimizer)

    # -- Epochs --------------------------------------------------------------

    def begin_epoch(self) -> None:
        if self.modulation is not None:
            self.modulation.begin_epoch()

    def epoch_logs(self) -> dict[str, float]:
        return {} if self.modulation is None else self.modulation.epoch_logs()

    def call(self, inputs: Tensor) -> Tensor:
        return inputs
