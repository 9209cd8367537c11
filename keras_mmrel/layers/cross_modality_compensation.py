import keras
from keras import ops

from keras_mmrel._branches import branches
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._glorot import glorot
from keras_mmrel.layers._stack_features import check_stacked
from keras_mmrel.layers.discriminative_power import NONE
from keras_mmrel.layers.discriminative_power import SPEED
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
class CrossModalityCompensation(TensorLayer):
    """Repair the features of a poor modality from those of better ones.

    With `ρ` the logit of a modality's power (see `DiscriminativePower`)
    the others are weighted by the softmax of their powers, and a small
    network translates them into what the modality should say,
    `c = U relu(Σ w V f) + u`. A gate mixes it in, `(1 - k) f + k c`, for each
    feature `d` by itself:

        k = sigmoid(2 (max ρ_other - ρ) - 2 + a (1 - 2 e_d))

    with `e_d` the fraction of the feature that was removed as ICI and a learnt
    `a` a modality, 1 at first. The better a modality is than all others, the
    more of it stays; one that is missing is replaced. Of two that are about as
    good, the features count: with a positive `a` one is completed the more,
    the less of it was removed. Where the classes are confused anyway it tells
    nothing by itself, and what is far from there is either discriminative or
    gone. Training makes `a` large (2.4 to 4 on four data sets), by which much
    of a good modality is completed, too: the gate is no judgement of
    quality. No gradient flows into `e_d`.

    One modality alone is returned as it is.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Features `(batch, modalities, d)`, zero where missing.
        power_logits: `(batch, modalities)`, -10,000 for a missing modality.
        removed: `None`, or which fraction of each feature was removed, of
            the shape of the inputs; without it `a` has no effect.

    Returns:
        Dict of `compensated`, `compensation` (`c`) and `gate` (`k`), all
        `(batch, modalities, d)`.

    Raises:
        ValueError: If the inputs have not three axes.

    Example:

    >>> layer = keras_mmrel.layers.CrossModalityCompensation()
    >>> power_logits = np.array([[0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])
    >>> out = layer(np.ones((2, 3, 4)), power_logits)
    >>> bool(out["gate"][0, 0, 0] > out["gate"][1, 0, 0])
    True

    References:
        - [MICINet](https://arxiv.org/abs/2502.19674v1), the compensation
          from better modalities. The formulas are this library's own.
    """

    def build(
        self,
        inputs_shape: tuple,
        power_logits_shape: tuple | None = None,
        removed_shape: tuple | None = None,
    ) -> None:
        check_stacked(inputs_shape)
        _, modalities, size = inputs_shape
        self.sizes = (modalities, size)
        self.alone = modalities == 1
        if self.alone:
            return
        hidden = max(size // 2, 1)
        self.read = self.add_weight(
            shape=(modalities, size, hidden),
            initializer=glorot(size, hidden),
            name="read",
        )
        self.write = self.add_weight(
            shape=(modalities, hidden, size),
            initializer=glorot(hidden, size),
            name="write",
        )
        self.bias = self.add_weight(
            shape=(modalities, size), initializer="zeros", name="bias"
        )
        self.slope = self.add_weight(
            shape=(modalities, 1),
            initializer=keras.initializers.Constant(1.0 / SPEED),
            dtype="float32",
            autocast=False,
            name="slope",
        )

    def call(
        self,
        inputs: Tensor,
        power_logits: Tensor,
        removed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        check_shape("inputs", inputs, "batch", *self.sizes)
        check_shape("power_logits", power_logits, "batch", self.sizes[0])
        power_logits = ops.cast(power_logits, "float32")
        if self.alone:
            return {
                "compensated": inputs,
                "compensation": ops.zeros_like(inputs),
                "gate": ops.zeros_like(inputs, dtype="float32"),
            }
        # (modalities, modalities): the power of every other one.
        own = ops.eye(power_logits.shape[1], dtype="float32")
        others = ops.where(own > 0, 2.0 * NONE, power_logits[:, None, :])
        weights = ops.cast(ops.softmax(others, axis=-1), self.compute_dtype)
        inputs, read, taken = branches(inputs, 3)
        hidden = ops.einsum("bmd,mdh->bmh", read, self.read)
        hidden = ops.relu(ops.einsum("bmn,bnh->bmh", weights, hidden))
        compensation = ops.einsum("bmh,mhd->bmd", hidden, self.write)
        compensation = compensation + self.bias
        logit = 2.0 * (ops.max(others, axis=-1) - power_logits) - 2.0
        if removed is None:
            removed = ops.full_like(inputs, 0.5)
        check_shape("removed", removed, "batch", *self.sizes)
        removed = ops.stop_gradient(ops.cast(removed, "float32"))
        slope = SPEED * ops.convert_to_tensor(self.slope)
        gate = ops.sigmoid(logit[:, :, None] + slope * (1.0 - 2.0 * removed))
        mixed = ops.cast(gate, self.compute_dtype)
        return {
            "compensated": inputs + mixed * (compensation - taken),
            "compensation": compensation,
            "gate": gate,
        }
