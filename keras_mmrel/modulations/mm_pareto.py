from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import Variables
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.modulations.gradient_modulation import Owners
from keras_mmrel.state import add_state


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(rescale=Number(0, low_open=True))
class MMPareto(GradientModulation):
    """Let each modality's own loss help its encoder, and not lead it astray.

    To the model's loss it adds the cross-entropies of `modality_logits`, so
    that each encoder has two gradients: `g` of the model's loss, and `u` of
    the added one. Where they do not point against each other (their cosine
    is not negative) the encoder takes their sum. Else it takes
    `2 (1 - w) g + 2 w u`, the shortest vector of that form with `w` in
    [0, 1], which is bad for neither. No tensor's gradient gets shorter by
    that than the sum is, and all of the encoders' are multiplied by
    `rescale`. The fusion and the heads take the plain sum.

    Logged for each epoch, beside the coefficients, which are `rescale`:
    `<modality>_unimodal_weight`, the mean of `2 w` (1 is the plain sum), and
    `unimodal_loss`. Validation losses are the model's own. A step takes two
    backward passes. Models that train modalities by themselves already, as
    with a `modality_loss_weight`, do so in addition.

    The paper's text was not available to us; this follows its released code
    (commit a339db3), whose results for one batch are those of this class to
    1e-6. There two gradients of length zero make a NaN; here they stay zero.
    More than two modalities, and missing ones, are this library's own: the
    loss of a sample counts the modalities that it has.

    Args:
        rescale: Positive float. Optimizers such as Adam cancel such a factor
            in gradients, see `apply_to`; 1.5 in the released code, with SGD.
        **kwargs: Arguments of `GradientModulation`.

    Raises:
        ValueError: If `rescale` is not positive.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> model.compile("sgd", modulation=keras_mmrel.modulations.MMPareto())
    >>> x = {"a": np.ones((4, 8)), "b": np.ones((4, 4))}
    >>> history = model.fit(x, np.array([0, 1, 2, 0]), verbose=0).history
    >>> [key for key in history if key.endswith("weight")]
    ['a_unimodal_weight', 'b_unimodal_weight']

    References:
        - [Wei and Hu, 2024, MMPareto: Boosting Multimodal Learning with
          Innocent Unimodal Assistance](https://arxiv.org/abs/2405.17730)
    """

    def __init__(self, rescale: float = 1.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rescale = rescale

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        self.total_weight = add_state(self, "total_weight", (input_shape[-1],))
        self.total_loss = add_state(self, "total_loss", ())

    def compute_coefficients(
        self, labels: Tensor, outputs: Outputs, present: Tensor
    ) -> Tensor:
        return ops.full_like(present, self.rescale)

    def added_loss(
        self, labels: Tensor, outputs: Outputs, sample_weight: Tensor
    ) -> Tensor:
        log_p = ops.log_softmax(outputs[MODALITY_LOGITS], axis=-1)
        losses = -ops.sum(labels[:, None, :] * log_p, axis=-1)
        loss = mean_over_samples(losses * outputs[MASK], sample_weight)
        count = ops.cast(ops.shape(labels)[0], "float32")
        sums = backend.all_reduce_sum(ops.stack([loss * count, count]))
        self.total_loss.assign_add(ops.stop_gradient(sums[0] / sums[1]))
        return loss

    def merge_gradients(
        self,
        gradients: Sequence[Tensor],
        added: Sequence[Tensor],
        variables: Variables,
        owners: Owners,
    ) -> list[Tensor]:
        merged = list(gradients)
        pairs, products = {}, {}
        for i, (total, own) in enumerate(zip(gradients, added, strict=True)):
            if owners[i] is not None and total is not None and own is not None:
                pairs[i] = total - own, own
                products[i] = _products(*pairs[i])
        weights = self._weights(products, owners)
        self.total_weight.assign_add(2.0 * weights)
        for i, (joint, own) in pairs.items():
            weight = weights[owners[i]]
            # The plain sum stays to the last bit.
            merged[i] = ops.where(
                ops.equal(weight, 0.5),
                merged[i],
                _merged(joint, own, weight, products[i]),
            )
        return merged

    def _weights(self, products: dict[int, Tensor], owners: Owners) -> Tensor:
        """Weight `w` of each modality's own gradient, `(n_modalities,)`."""
        sums = [ops.zeros((3,)) for _ in self.modality_names]
        for i, product in products.items():
            owner = owners[i]
            assert owner is not None
            sums[owner] = sums[owner] + product
        joint, mixed, own = ops.unstack(ops.stack(sums), axis=1)
        conflict = ops.logical_and(mixed < 0, self.active > 0)
        length = ops.where(conflict, joint + own - 2.0 * mixed, 1.0)
        return ops.where(conflict, (joint - mixed) / length, 0.5)

    def begin_epoch(self) -> None:
        super().begin_epoch()
        self.total_weight.assign(ops.zeros(self.total_weight.shape))
        self.total_loss.assign(0.0)

    def epoch_logs(self) -> dict[str, float]:
        steps = max(float(ops.convert_to_numpy(self.steps)), 1.0)
        means = ops.convert_to_numpy(self.total_weight) / steps
        logs = {
            f"{name}_unimodal_weight": float(mean)
            for name, mean in zip(self.modality_names, means, strict=True)
        }
        loss = float(ops.convert_to_numpy(self.total_loss)) / steps
        return {**super().epoch_logs(), **logs, "unimodal_loss": loss}

    def get_config(self) -> dict:
        return {**super().get_config(), "rescale": self.rescale}


def _products(joint: Tensor, own: Tensor) -> Tensor:
    """`[g g, g u, u u]` of a variable's two gradients, on all devices."""
    pair = ops.stack([ops.reshape(joint, (-1,)), ops.reshape(own, (-1,))])
    pair = backend.all_reduce_sum(ops.cast(pair, "float32"))
    gram = ops.matmul(pair, ops.transpose(pair))
    return ops.stack([gram[0, 0], gram[0, 1], gram[1, 1]])


def _merged(
    joint: Tensor, own: Tensor, weight: Tensor, products: Tensor
) -> Tensor:
    """Gradient of one variable, not shorter than the sum of both."""
    a, b = 2.0 * (1.0 - weight), 2.0 * weight
    gg, gu, uu = ops.unstack(products)
    summed = gg + 2.0 * gu + uu
    length = a * a * gg + 2.0 * a * b * gu + b * b * uu
    # Where nothing is left of it there is no direction to go.
    ratio = summed / ops.where(length > 0, length, 1.0)
    scale = ops.sqrt(ops.maximum(ops.where(length > 0, ratio, 1.0), 1.0))
    a, b = (ops.cast(scale * c, own.dtype) for c in (a, b))
    return a * joint + b * own
