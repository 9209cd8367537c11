import weakref
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.backend import upstream
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Model
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import Variables
from keras_mmrel.modulations.scores import present_modalities
from keras_mmrel.state import add_state
from keras_mmrel.user_warning import warn

# The batch's inputs in the training record, for those that ask for them.
INPUTS = "inputs"
# One a variable: index of the modality whose encoder it is of, or `None`.
Owners = list[int | None]


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    apply_to=Choice("auto", "gradients", "updates"),
    warmup=Number(0, 1),
    until=Number(0, 1, low_open=True),
)
class GradientModulation(keras.layers.Layer):
    """Base of the strategies that decide how fast each encoder learns.

    A modulation is given to `compile(modulation=...)` of any model of the
    library. In every training step it computes one coefficient a modality
    from the labels and the model's outputs, and what that modality's encoder
    learns in the step is multiplied by it; the fusion is left alone. This
    class is the identity: all coefficients are 1. A strategy is a subclass
    with `compute_coefficients`, and nothing else if it needs no options. One
    that changes what the losses see defines `modulate_outputs`, one that adds
    a loss `added_loss`, and `merge_gradients` if it looks at the gradients of
    that apart from those of the rest, for which a step goes backwards twice.

    The coefficients' means over each epoch are logged as
    `<modality>_coefficient` in `History` and TensorBoard. They are computed
    on the global batch when several devices train together, in float32, and
    saved with the model. A modality that is missing in a whole batch keeps
    its coefficient and enters no ratio; with one modality only, or one
    present, nothing is modulated. A coefficient that is not finite is not
    taken over.

    Args:
        apply_to: `"gradients"` multiplies the gradients before the optimizer
            sees them. Optimizers that divide by the size of the gradient
            (Adam, RMSprop, ...) cancel most of a constant factor, so
            `"updates"` multiplies what the optimizer did to the weights
            instead, its weight decay included. `"auto"` takes gradients
            under SGD and updates under every other optimizer.
        warmup: Number in [0, 1], fraction of the training before the
            modulation begins, see `keras_mmrel.models.Clock.warmup_steps`.
        until: Number in (0, 1], fraction of the training after which it
            ends; 1 for no end.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is outside its range, or the modulation
            ends before it begins.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> modulation = keras_mmrel.modulations.OGM(alpha=0.8)
    >>> model.compile("sgd", modulation=modulation)
    >>> x = {"a": np.ones((4, 8)), "b": np.ones((4, 4))}
    >>> history = model.fit(x, np.array([0, 1, 2, 0]), verbose=0).history
    >>> sorted(key for key in history if key.endswith("coefficient"))
    ['a_coefficient', 'b_coefficient']
    """

    # Whether the training record holds the batch's inputs, as `inputs`.
    sees_inputs = False
    # Whether the model must have a head on all features.
    needs_shared_head = False

    def __init__(
        self,
        apply_to: str = "auto",
        warmup: float = 0.0,
        until: float = 1.0,
        **kwargs: Any,
    ) -> None:
        if until <= warmup:
            raise ValueError(
                "`until` must be above `warmup`. Received: "
                f"warmup={warmup}, until={until}"
            )
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.apply_to = apply_to
        self.warmup = warmup
        self.until = until
        self.modality_names: list[str] = []
        self.edits_updates = False
        self._model: weakref.ref | None = None

    # -- What a strategy defines ---------------------------------------------

    def compute_coefficients(
        self, labels: Tensor, outputs: Outputs, present: Tensor
    ) -> Tensor:
        """Return this step's coefficients, one a modality.

        Args:
            labels: One-hot labels `(batch, num_classes)` in float32.
            outputs: What the model's `call` returned, with `logits`,
                `modality_logits` and `modality_mask` at least.
            present: `(n_modalities,)`, 1 for a modality that the batch has.

        Returns:
            `(n_modalities,)`. No gradient flows through it.
        """
        return ops.ones_like(present)

    def modulate_outputs(
        self, labels: Tensor, outputs: Outputs, sample_weight: Tensor
    ) -> tuple[Outputs, Tensor]:
        """Return the outputs and sample weights that the losses see.

        Args:
            labels: One-hot labels `(batch, num_classes)` in float32.
            outputs: What the model's `call` returned, with its
                `training_record`.
            sample_weight: `(batch,)` or `None`.
        """
        return outputs, sample_weight

    def added_loss(
        self, labels: Tensor, outputs: Outputs, sample_weight: Tensor
    ) -> Tensor | None:
        """Return a loss that training adds to the model's, or `None`.

        Args:
            labels: One-hot labels `(batch, num_classes)` in float32.
            outputs: What the model's `call` returned.
            sample_weight: `(batch,)` or `None`.

        Returns:
            A scalar, a mean over the batch, or `None` always.
        """
        return None

    def merge_gradients(
        self,
        gradients: Sequence[Tensor],
        added: Sequence[Tensor],
        variables: Variables,
        owners: Owners,
    ) -> Sequence[Tensor]:
        """Return the gradients to modulate where there is an added loss.

        Args:
            gradients: One a variable, of the (loss-scaled) loss in total.
            added: Those of the added loss alone, as far as it reaches.
            variables: The trainable variables.
            owners: As in `modulate_gradients`.
        """
        return gradients

    def modulate_gradients(
        self, gradients: Sequence[Tensor], variables: Variables, owners: Owners
    ) -> list[Tensor]:
        """Edit the gradients of one step; `None` passes through.

        Args:
            gradients: One a variable, of the (loss-scaled) loss.
            variables: The trainable variables.
            owners: For each variable the index of the modality whose encoder
                it belongs to, or `None`.
        """
        if self.edits_updates:
            return list(gradients)
        factors = self.effective_coefficients()
        return [
            gradient
            if gradient is None or owner is None
            else gradient * ops.cast(factors[owner], gradient.dtype)
            for gradient, owner in zip(gradients, owners, strict=True)
        ]

    # -- Called by the model -------------------------------------------------

    def check_model(self, model: Model) -> None:
        """Refuse what does not fit, and any model but its own."""
        if self.needs_shared_head and not hasattr(model, "fuse"):
            raise ValueError(
                f"`modulation` must fit the model: {type(self).__name__} needs "
                "one with a head on all features, such as ConcatFusion. "
                f"Received: {type(model).__name__}"
            )
        owner = None if self._model is None else self._model()
        if owner is not None and owner is not model:
            raise ValueError(
                "`modulation` must be used with one model only, to which its "
                "state belongs. Received: the modulation of a model of "
                f"{self.modality_names} for another, of {model.modality_names}"
            )

    def own_model(self) -> Model:
        """Return the model that this belongs to, since its `compile`."""
        model = None if self._model is None else self._model()
        assert model is not None
        return model

    def setup(self, model: Model) -> None:
        """Prepare for a model; called by its `compile`."""
        self.check_model(model)
        self._model = weakref.ref(model)
        self.modality_names = list(model.modality_names)
        optimizer = model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        plain = isinstance(optimizer, keras.optimizers.SGD)
        self.edits_updates = self.apply_to == "updates" or (
            self.apply_to == "auto" and not plain
        )
        if self.edits_updates and optimizer.ema_overwrite_frequency:
            raise ValueError(
                "`ema_overwrite_frequency` must be None where a modulation "
                "edits updates, which an overwritten weight does not show. "
                "Received: ema_overwrite_frequency="
                f"{optimizer.ema_overwrite_frequency}"
            )
        if not self.built:
            self.build((None, len(self.modality_names)))
        if model.built:
            variables = model.trainable_variables
            owners = model.modulation_slot.owners(variables)
            owners = self.touched(variables, owners)
            if all(owner is None for owner in owners):
                warn(
                    f"{type(self).__name__} has nothing to modulate: no "
                    "encoder of the model has a trainable weight that it "
                    "touches."
                )

    def touched(self, variables: Variables, owners: Owners) -> Owners:
        """Return the owners, `None` for what the strategy leaves alone."""
        return list(owners)

    def build(self, input_shape: tuple) -> None:
        count = input_shape[-1]
        self.coefficients = add_state(self, "coefficients", (count,), "ones")
        self.active = add_state(
            self, "active", (), "zeros" if self.warmup else "ones"
        )
        self.total = add_state(self, "total", (count,))
        self.steps = add_state(self, "steps", ())

    def call(self, inputs: Tensor) -> Tensor:
        return inputs

    def begin_step(self, clock: Any) -> None:
        """Look whether this step is in the window of the modulation.

        Args:
            clock: The model's `keras_mmrel.models.Clock`.
        """
        active = clock.warmed_up(self.warmup)
        if self.until < 1.0:
            active = active * (1.0 - clock.passed(self.until))
        self.active.assign(active)

    def update(self, labels: Tensor, outputs: Outputs) -> None:
        """Take over the coefficients of this step and record them.

        Args:
            labels: One-hot labels `(batch, num_classes)`.
            outputs: What the model's `call` returned.
        """
        present = present_modalities(outputs)
        new = ops.stop_gradient(
            self.compute_coefficients(labels, outputs, present)
        )
        taken = (present > 0) & (ops.sum(present) > 1) & ops.isfinite(new)
        old = ops.convert_to_tensor(self.coefficients)
        self.coefficients.assign(ops.where(taken, new, old))
        self.total.assign_add(self.effective_coefficients())
        self.steps.assign_add(1.0)

    def effective_coefficients(self) -> Tensor:
        """Coefficients while active, ones otherwise, `(n_modalities,)`."""
        coefficients = ops.convert_to_tensor(self.coefficients)
        return ops.where(
            ops.convert_to_tensor(self.active) > 0,
            coefficients,
            ops.ones_like(coefficients),
        )

    def modulate_updates(
        self,
        old: Sequence[Tensor],
        new: Sequence[Tensor],
        owners: Owners,
        optimizer: Any,
    ) -> list[Tensor]:
        """Edit what the optimizer did to the weights in one step.

        Args:
            old: Values of the trainable variables before the step.
            new: Their values after it.
            owners: As in `modulate_gradients`.
            optimizer: The optimizer, whose moving average of the weights is
                made to follow the edited weights.
        """
        factors = self.effective_coefficients()
        # Written so that a coefficient of 1 changes no bit.
        edited = [
            after
            if owner is None
            else after
            + ops.cast(factors[owner] - 1.0, after.dtype) * (after - before)
            for before, after, owner in zip(old, new, owners, strict=True)
        ]
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if inner.use_ema:
            # The optimizer has averaged its own weights, at full weight in
            # its first step.
            first = ops.cast(ops.equal(inner.iterations, 1), "float32")
            fraction = 1.0 - inner.ema_momentum * (1.0 - first)
            averages = upstream.weight_averages(inner)
            for average, after, value in zip(
                averages, new, edited, strict=True
            ):
                if average is not None:
                    step = ops.cast(fraction, value.dtype) * (value - after)
                    average.assign(average + step)
        return edited

    # -- Epochs --------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Start a new record of the coefficients."""
        self.total.assign(ops.zeros(self.total.shape))
        self.steps.assign(0.0)

    def epoch_logs(self) -> dict[str, float]:
        """Mean coefficient of every modality since the epoch began."""
        steps = max(float(ops.convert_to_numpy(self.steps)), 1.0)
        means = ops.convert_to_numpy(self.total) / steps
        return {
            f"{name}_coefficient": float(mean)
            for name, mean in zip(self.modality_names, means, strict=True)
        }

    def load_own_variables(self, store: Any) -> None:
        # Weights saved without a modulation, or with one that keeps another
        # state, fit the model all the same: the state starts anew.
        if len(store.keys()) == len(upstream.own_state(self)):
            super().load_own_variables(store)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "apply_to": self.apply_to,
            "warmup": self.warmup,
            "until": self.until,
        }
