import keras
from keras import ops

from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._glorot import glorot
from keras_mmrel.layers._stack_features import check_stacked
from keras_mmrel.layers.discriminative_power import NONE
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
class CrossModalityCompensation(TensorLayer):
    """Fill what was removed from a modality with what better ones let expect.

    With `ρ` the logit of a modality's power (see `DiscriminativePower`)
    the others are weighted by the softmax of their powers, and a small
    network translates them into what the modality should say,
    `c = U relu(Σ w V f) + u`. Where ICI was removed there is a hole, which
    `c` fills for each feature `d` by itself:

        f_d + k_d c_d,    k_d = e_d r_best / (r_best + r)

    with `e_d` the fraction of the feature that was removed, `r` the
    modality's power `exp(ρ)`, and `r_best` that of the best other one. With
    `f = (1 - e)(z - μ)`, as `ICIRemoval` leaves it, and others that are far
    better this is the mean of `z - μ` and of what it is expected to be, in the
    parts in which it is believed and not. A modality that is better than all
    others keeps its holes, one that is missing is all hole, and where nothing
    was removed nothing changes. No gradient flows into `e`.

    One modality alone is returned as it is.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Features `(batch, modalities, d)`, zero where missing.
        power_logits: `(batch, modalities)`, -10,000 for a missing modality.
        removed: `None` for all, or which fraction of each feature was
            removed, in [0, 1], of the shape of the inputs.

    Returns:
        Dict of `compensated`, `compensation` (`c`) and `gate` (`k`, in
        [0, 1]), all `(batch, modalities, d)`.

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
          from better modalities, by the complementary relationship of what
          was removed and what is left. The formulas are this library's own.
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
        hidden = ops.einsum("bmd,mdh->bmh", inputs, self.read)
        hidden = ops.relu(ops.einsum("bmn,bnh->bmh", weights, hidden))
        compensation = ops.einsum("bmh,mhd->bmd", hidden, self.write)
        compensation = compensation + self.bias
        # r_best / (r_best + r), from the logits.
        gate = ops.sigmoid(ops.max(others, axis=-1) - power_logits)
        gate = ops.broadcast_to(gate[:, :, None], ops.shape(inputs))
        if removed is not None:
            check_shape("removed", removed, "batch", *self.sizes)
            gate = gate * ops.stop_gradient(ops.cast(removed, "float32"))
        filling = ops.cast(gate, self.compute_dtype) * compensation
        return {
            "compensated": inputs + filling,
            "compensation": compensation,
            "gate": gate,
        }
