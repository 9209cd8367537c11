from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.state import add_state

# What a model takes for its training until something plans it.
DEFAULT_STEPS = 1000
# Planned steps while the length of an epoch is not known yet.
UNKNOWN = 1e9


@keras.saving.register_keras_serializable(package="keras_mmrel")
class Clock(keras.layers.Layer):
    """How far the training of a model is, as weights that a step can read.

    A compiled step cannot read a Python attribute that changes. Everything
    that depends on how far the training is (warm-ups, annealing, windows of
    modulations) is a function of these weights:

    - `step`: training steps made.
    - `epoch`: number of the epoch that runs, from 0, as Keras counts.
    - `progress`: `step` as a fraction of the planned steps, at most 1.

    The first `fit` plans the steps: its epochs times their length. Where the
    length of an epoch is not known before (a generator, say) progress stays 0
    in the first epoch, and is right from the second on. A `fit` with an
    `initial_epoch` goes on with the plan of the one that it resumes; without,
    it makes a new plan from the steps made so far if that one was left
    unfinished. A further `fit` of a model whose plan is fulfilled goes on with
    progress 1; `reset` makes it a training of its own. The state is saved with
    the model. For `train_on_batch` call `plan(steps_per_epoch, epochs)`;
    without it 1,000 steps are expected.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Example:

    >>> model = keras_mmrel.TMC({"a": (8,), "b": (4,)}, 3)
    >>> model.clock.plan(steps_per_epoch=10, epochs=3)
    >>> float(model.clock.warmup_steps(0.1))
    15.0
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", "name": "clock", **kwargs})

        def constant(value: float) -> Any:
            return keras.initializers.Constant(value)

        self.step = add_state(self, "step")
        self.epoch = add_state(self, "epoch")
        self.progress = add_state(self, "progress")
        self.planned_steps = add_state(
            self, "planned_steps", (), constant(DEFAULT_STEPS)
        )
        self.epoch_steps = add_state(self, "epoch_steps")
        # The step at which the plan was made, -1 before.
        self.planned_at = add_state(self, "planned_at", (), constant(-1.0))
        self.built = True

    # -- What methods ask ----------------------------------------------------

    def passed(self, fraction: float) -> Tensor:
        """1.0 from that fraction of the planned steps on, 0.0 before."""
        # A GPU rounds 3 / 10 to less than 0.3.
        return ops.cast(self.progress + 0.0 >= fraction - 1e-6, "float32")

    def warmup_steps(self, fraction: float) -> Tensor:
        """Number of steps of a warm-up, the same rule for all methods.

        It lasts `fraction` of the planned steps, but at least two epochs, so
        that statistics see every sample twice, as long as these are not more
        than half of the training. 0 means no warm-up.
        """
        if not fraction:
            return ops.zeros(())
        planned = ops.convert_to_tensor(self.planned_steps)
        epoch = ops.convert_to_tensor(self.epoch_steps)
        made = ops.convert_to_tensor(self.planned_at)
        least = ops.minimum(2.0 * epoch, ops.floor(planned / 2.0))
        steps = ops.maximum(ops.round(fraction * planned), least)
        # A plan that came late leaves half an epoch for the second half.
        late = made + ops.maximum(ops.floor(epoch / 2.0), 1.0)
        steps = ops.where(made > 0, ops.maximum(steps, late), steps)
        return ops.maximum(steps, 1.0)

    def warmed_up(self, fraction: float) -> Tensor:
        """1.0 after a warm-up of that fraction, 0.0 in it."""
        return ops.cast(
            self.step + 0.0 >= self.warmup_steps(fraction), "float32"
        )

    def ramp(self, epochs: float) -> Tensor:
        """From 0.0 at the start to 1.0 after that many epochs, linearly.

        Where nobody knows how long an epoch is, a tenth of the planned steps
        takes its place.

        Args:
            epochs: Positive float.
        """
        steps = epochs * ops.convert_to_tensor(self.epoch_steps)
        planned = ops.convert_to_tensor(self.planned_steps)
        steps = ops.where(steps > 0, steps, 0.1 * planned)
        return ops.minimum((self.step + 0.0) / steps, 1.0)

    # -- What moves it -------------------------------------------------------

    @constrained(steps_per_epoch=Integer(1), epochs=Integer(1))
    def plan(self, steps_per_epoch: int, epochs: int) -> None:
        """Set the number of steps that the training has from now on.

        Args:
            steps_per_epoch: Positive integer.
            epochs: Positive integer.
        """
        made = float(ops.convert_to_numpy(self.step))
        self.planned_steps.assign(made + steps_per_epoch * epochs)
        self.epoch_steps.assign(float(steps_per_epoch))
        self.planned_at.assign(made)
        self._set_progress()

    def expect_plan(self) -> None:
        """Say that the plan will come with the end of the first epoch."""
        self.planned_steps.assign(UNKNOWN)
        self.planned_at.assign(-1.0)

    @property
    def planned(self) -> bool:
        """Whether somebody planned the steps."""
        return float(ops.convert_to_numpy(self.planned_at)) >= 0

    @property
    def fulfilled(self) -> bool:
        """Whether all planned steps are made."""
        return self.planned and float(ops.convert_to_numpy(self.progress)) >= 1

    def advance(self) -> None:
        """Count a training step; called in the step by the model."""
        self.step.assign(self.step + 1.0)
        self._set_progress()

    def _set_progress(self) -> None:
        progress = (self.step + 0.0) / (self.planned_steps + 0.0)
        self.progress.assign(ops.minimum(progress, 1.0))

    def reset(self) -> None:
        """Begin anew: the next `fit` plans a training of its own."""
        for weight in (self.step, self.epoch, self.progress, self.epoch_steps):
            weight.assign(0.0)
        self.planned_steps.assign(float(DEFAULT_STEPS))
        self.planned_at.assign(-1.0)

    def call(self, inputs: Tensor) -> Tensor:
        return inputs
