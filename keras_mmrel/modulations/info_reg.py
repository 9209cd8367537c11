from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Model
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import Variables
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.modulations.gradient_modulation import Owners
from keras_mmrel.modulations.scores import batch_mean
from keras_mmrel.modulations.scores import mean_of_others
from keras_mmrel.modulations.scores import present_modalities
from keras_mmrel.modulations.scores import true_class_probability
from keras_mmrel.state import add_state


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    strength=Either(Number(0), Every(Number(0))),
    threshold=Number(0),
    window=Integer(1),
)
class InfoReg(GradientModulation):
    """Information acquisition regulation: hold the leader back, early on.

    What an encoder takes up in an epoch is read off its gradients: the mean
    square of each kernel's, summed over kernels and steps. As long as that
    still grows, the modality that leads is pulled to where its encoder was
    when the epoch began: `beta / 2` times the square of the way since then is
    added to the loss, with `beta = strength * exp(tanh(gap))`. `gap` is how
    much more probable the true class is by the modality alone than by the
    others, in sum over the batch; where it is not above 0, `beta` is 0.
    Growth is by how much the mean of the last `window` epochs is above that
    one epoch before, as a fraction of it; epochs before the first count as
    0, and in the first all grow. It is over where it is at most `threshold`.

    Give the model a `modality_loss_weight` of 1 for the losses of each
    modality that belong to it. Logged for each epoch are `<modality>_pull`,
    the mean `beta`, and `<modality>_information`. A copy of the encoders'
    weights is kept, and saved with the model.

    This follows the released code (commit 939b2ed), whose weights and
    information over 14 epochs are those of this class to 1e-6 where the
    head's bias stays zero: there each modality's logits have half of it, here
    all. There strengths are 0.95 for sound and 0.1 for pictures, and the
    growth of sound alone counts for both; here each modality's own does. Of
    the paper we could read no more than that the weights are pulled in a
    window that is found by the Fisher information. More than two modalities,
    and missing ones, are this library's own.

    Args:
        strength: Non-negative float, or one a modality, in order.
        threshold: Non-negative float.
        window: Positive integer, in epochs.
        **kwargs: Arguments of `GradientModulation`; `apply_to` is of no
            account.

    Raises:
        ValueError: If an argument is outside its range, `strength` has not
            one number a modality, or the model is not built.

    Example:

    >>> model = keras_mmrel.ConcatFusion(
    ...     {"a": (8,), "b": (4,)}, 3, modality_loss_weight=1.0
    ... )
    >>> model.compile("sgd", modulation=keras_mmrel.modulations.InfoReg())
    >>> x = {"a": np.ones((4, 8)), "b": np.ones((4, 4))}
    >>> history = model.fit(x, np.array([0, 1, 2, 0]), verbose=0).history
    >>> [key for key in history if key.endswith("pull")]
    ['a_pull', 'b_pull']

    References:
        - [Huang et al., 2025, Adaptive Unimodal Regulation for Balanced
          Multimodal Information Acquisition](https://arxiv.org/abs/2503.18595)
    """

    def __init__(
        self,
        strength: float | Sequence[float] = 0.95,
        threshold: float = 0.05,
        window: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"apply_to": "gradients", **kwargs})
        self.strength = (
            list(strength) if isinstance(strength, Sequence) else strength
        )
        self.threshold = threshold
        self.window = window

    def check_model(self, model: Model) -> None:
        super().check_model(model)
        count = len(model.modality_names)
        if isinstance(self.strength, list) and len(self.strength) != count:
            raise ValueError(
                f"`strength` must be one number, or {count}, one a modality. "
                f"Received: strength={self.strength}"
            )
        if not model.built:
            raise ValueError(
                "`modulation` must fit the model: InfoReg keeps a copy of its "
                "encoders' weights and needs one that is built. Received: "
                f"{type(model).__name__}, built=False"
            )

    def setup(self, model: Model) -> None:
        self.check_model(model)
        if self.built:
            super().setup(model)
            return
        encoders = model.encoders
        self._shapes = [v.shape for e in encoders for v in e.weights]
        super().setup(model)
        self._keep_weights()

    def get_build_config(self) -> None:
        # The state has the model's shapes: a loaded one waits for `compile`.
        return None

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        count = input_shape[-1]
        self.kept = [
            add_state(self, f"kept_{i}", shape)
            for i, shape in enumerate(self._shapes)
        ]
        self.information = add_state(self, "information", (count,))
        self.past = add_state(self, "past", (count, self.window + 1))
        self.growth = add_state(self, "growth", (count,), "ones")
        self.total_pull = add_state(self, "total_pull", (count,))

    def _keep_weights(self) -> None:
        weights = [v for e in self.own_model().encoders for v in e.weights]
        for kept, weight in zip(self.kept, weights, strict=True):
            # A copy: a compiled step may give the memory of either away.
            kept.assign(ops.copy(ops.cast(weight, "float32")))

    def _trained(self) -> Iterator[tuple[int, Any, Any]]:
        """Index of a modality, a weight that it trains, and its copy."""
        encoders = self.own_model().encoders
        weights = [id(v) for e in encoders for v in e.weights]
        kept = dict(zip(weights, self.kept, strict=True))
        for index, encoder in enumerate(encoders):
            for variable in encoder.trainable_variables:
                yield index, variable, kept[id(variable)]

    def pulls(self, labels: Tensor, outputs: Outputs) -> Tensor:
        """Return `beta` of each modality, `(n_modalities,)`."""
        present = present_modalities(outputs)
        scores = true_class_probability(labels, outputs[MODALITY_LOGITS])
        mean = batch_mean(scores, outputs)
        batch = backend.all_reduce_sum(ops.sum(labels))
        gap = batch * (mean - mean_of_others(mean, present))
        strength = ops.convert_to_tensor(self.strength, "float32")
        beta = strength * ops.exp(ops.tanh(gap))
        leads = (gap > 0) & (present > 0) & (ops.sum(present) > 1)
        grows = (self.growth > self.threshold) & (self.active > 0)
        return ops.stop_gradient(ops.where(leads & grows, beta, 0.0))

    def added_loss(
        self, labels: Tensor, outputs: Outputs, sample_weight: Tensor
    ) -> Tensor:
        beta = self.pulls(labels, outputs)
        self.total_pull.assign_add(beta)
        loss = ops.zeros(())
        for index, variable, kept in self._trained():
            way = ops.cast(variable, "float32") - kept
            loss = loss + 0.5 * beta[index] * ops.sum(ops.square(way))
        return loss

    def modulate_gradients(
        self, gradients: Sequence[Tensor], variables: Variables, owners: Owners
    ) -> list[Tensor]:
        one = self.own_model().optimizer.scale_loss(ops.ones(()))
        # What the sum over devices is to be divided by: PyTorch's gradients
        # are means of all devices already, TensorFlow's are parts of a sum.
        devices = backend.all_reduce_sum(ops.ones(()))
        devices = devices * backend.replica_share(ops.ones(()))
        scale = ops.cast(one, "float32") * devices
        sums = [ops.zeros(()) for _ in self.modality_names]
        for gradient, owner in zip(gradients, owners, strict=True):
            if gradient is None or owner is None or len(gradient.shape) < 2:
                continue
            gradient = backend.all_reduce_sum(ops.cast(gradient, "float32"))
            sums[owner] = sums[owner] + ops.mean(ops.square(gradient / scale))
        taken = ops.stack(sums)
        taken = ops.where(ops.isfinite(taken), taken, ops.zeros_like(taken))
        self.information.assign_add(taken)
        return super().modulate_gradients(gradients, variables, owners)

    def begin_epoch(self) -> None:
        if float(ops.convert_to_numpy(self.steps)):
            newest = ops.convert_to_tensor(self.information)[:, None]
            past = ops.concatenate([self.past[:, 1:], newest], axis=1)
            now = ops.mean(past[:, 1:], axis=1)
            before = ops.mean(past[:, :-1], axis=1)
            self.past.assign(past)
            self.growth.assign((now - before) / ops.maximum(now, 1e-30))
        super().begin_epoch()
        self._keep_weights()
        self.information.assign(ops.zeros(self.information.shape))
        self.total_pull.assign(ops.zeros(self.total_pull.shape))

    def epoch_logs(self) -> dict[str, float]:
        steps = max(float(ops.convert_to_numpy(self.steps)), 1.0)
        logs = super().epoch_logs()
        for key, values in (
            ("pull", ops.convert_to_numpy(self.total_pull) / steps),
            ("information", ops.convert_to_numpy(self.information)),
        ):
            for name, value in zip(self.modality_names, values, strict=True):
                logs[f"{name}_{key}"] = float(value)
        return logs

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "strength": self.strength,
            "threshold": self.threshold,
            "window": self.window,
        }
