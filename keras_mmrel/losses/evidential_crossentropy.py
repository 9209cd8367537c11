import math

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel._branches import branches
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import DType
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.losses._class_loss import ClassLoss

# Above it a series is more exact than the differences of large numbers.
_LARGE = 8.0
# exp of it is far from the largest float32.
_LARGEST_LOG = 80.0


def concentrations(logits: Tensor) -> Tensor:
    """Dirichlet concentrations, in float32, of logits that are their logs."""
    logits = ops.cast(logits, "float32")
    return ops.exp(ops.minimum(logits, _LARGEST_LOG))


def expected_crossentropy(labels: Labels, alpha: Tensor) -> Tensor:
    """Mean cross-entropy of the class probabilities that `Dir(alpha)` draws.

    Args:
        labels: One-hot rows `(..., num_classes)`.
        alpha: Positive concentrations `(..., num_classes)`.

    Returns:
        `(...)`.
    """
    total = backend.digamma(ops.sum(alpha, axis=-1, keepdims=True))
    return ops.sum(labels * (total - backend.digamma(alpha)), axis=-1)


def dirichlet_kl(alpha: Tensor) -> Tensor:
    """KL divergence of `Dir(alpha)` from the uniform `Dir(1)`.

    Args:
        alpha: Positive concentrations `(..., num_classes)`.

    Returns:
        `(...)`, of at least 0.
    """
    classes = alpha.shape[-1]
    total = ops.sum(alpha, axis=-1)
    # The terms that grow like alpha cancel out, so none of them is formed:
    # with alpha = 1e4 they would leave nothing of a float32.
    return (
        _entropy_part(total)
        - ops.sum(_entropy_part(alpha), axis=-1)
        + (classes - 1.0) * backend.digamma(total)
        - math.lgamma(classes)
    )


def divergence_of_the_rest(labels: Labels, alpha: Tensor) -> Tensor:
    """`dirichlet_kl` after the true class' own evidence is taken away.

    Args:
        labels: One-hot rows `(..., num_classes)`.
        alpha: Positive concentrations `(..., num_classes)`.
    """
    return dirichlet_kl(labels + (1.0 - labels) * alpha)


def _entropy_part(x: Tensor) -> Tensor:
    """`lgamma(x) - (x - 1) digamma(x) + x`, which grows like `log(x) / 2`."""
    is_small = x < _LARGE
    a, b, c, d = branches(ops.where(is_small, x, 1.0), 4)
    exact = backend.lgamma(a) - (b - 1.0) * backend.digamma(c) + d
    large = ops.where(is_small, _LARGE, x)
    r = 1.0 / large
    rest = r * (1 / 3 + r * (1 / 12 + r * (1 / 90 - r / 120)))
    series = 0.5 * (ops.log(2.0 * math.pi * large) + 1.0) - rest
    return ops.where(is_small, exact, series)


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    kl_weight=Either(
        Number(0), Instance(keras.Variable, "a scalar `keras.Variable`")
    )
)
class EvidentialCrossentropy(ClassLoss):
    """Cross-entropy of evidence: logits are logs of Dirichlet concentrations.

    A model says `alpha = exp(logits)`, the concentrations of a Dirichlet
    distribution over class probabilities. Its mean is `softmax(logits)`, so
    that accuracy and all other metrics need nothing new, and its total
    `S = sum(alpha)` says how much evidence there is. With `psi` the digamma
    function and `y` the one-hot label the loss is

        sum_k y_k (psi(S) - psi(alpha_k))
            + kl_weight * KL(Dir(y + (1 - y) alpha) || Dir(1))

    The first term is the cross-entropy that probabilities drawn from the
    distribution have on average. The second takes evidence away from wrong
    classes; it is mostly phased in during training, since it would otherwise
    keep all evidence at nothing.

    Everything is computed in float32, without differences of large numbers:
    the error stays near 1e-5 for concentrations of 1e4. Logits above 80
    count as 80.

    Args:
        kl_weight: Non-negative float, weight of the divergence; or a scalar
            `keras.Variable` of the model that is trained, which a callback
            assigns while training goes on. A file keeps the value that the
            variable has when it is saved, as a float.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Class numbers of shape `(batch,)` or `(batch, 1)`, or one-hot
            rows of shape `(batch, num_classes)`.
        y_pred: Logs of concentrations, `(batch, num_classes)`.

    Raises:
        ValueError: If `kl_weight` is negative, a shape does not fit, or, in a
            step that is not compiled, labels are out of range or `y_pred`
            holds probabilities.

    Example:

    >>> loss = keras_mmrel.losses.EvidentialCrossentropy()
    >>> no_evidence = np.log([[1.0, 1.0]])  # psi(2) - psi(1)
    >>> round(float(loss(np.array([0]), no_evidence)), 4)
    1.0
    >>> right = np.log([[100.0, 1.0]])
    >>> round(float(loss(np.array([0]), right)), 4)
    0.01

    References:
        - [Sensoy et al., 2018, Evidential deep learning to quantify
          classification uncertainty](https://arxiv.org/abs/1806.01768)
        - [Han et al., 2021, Trusted multi-view
          classification](https://arxiv.org/abs/2102.02051)
    """

    def __init__(
        self,
        kl_weight: Tensor = 0.0,
        reduction: str = "sum_over_batch_size",
        name: str = "evidential_crossentropy",
        dtype: DType = None,
    ) -> None:
        if isinstance(kl_weight, keras.Variable) and kl_weight.shape != ():
            raise ValueError(
                "`kl_weight` must be a number or a scalar variable. Received: "
                f"kl_weight.shape={tuple(kl_weight.shape)}"
            )
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.kl_weight = kl_weight

    def call(self, y_true: Labels, y_pred: Tensor) -> Tensor:
        labels = one_hot_labels(y_true, y_pred.shape[-1])
        alpha = concentrations(y_pred)
        loss = expected_crossentropy(labels, alpha)
        if isinstance(self.kl_weight, keras.Variable):
            weight = ops.convert_to_tensor(self.kl_weight)
        elif self.kl_weight:
            weight = self.kl_weight
        else:
            return loss
        return loss + weight * divergence_of_the_rest(labels, alpha)

    def get_config(self) -> dict:
        weight = self.kl_weight
        if isinstance(weight, keras.Variable):
            weight = float(ops.convert_to_numpy(weight))
        return {**super().get_config(), "kl_weight": weight}
