import math
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Tensor
from keras_mmrel.models.evidential_model import EvidentialModel


def fused_log_concentrations(evidence: Tensor) -> Tensor:
    """Logs of the concentrations after Dempster's reduced combination.

    An opinion has the beliefs `b = e / S` and the uncertainty `u = K / S`
    with `S = sum(e) + K`. The rule, `b = (b1 b2 + b1 u2 + b2 u1) / (1 - C)`
    and `u = u1 u2 / (1 - C)`, divides by what two certain opinions in
    conflict leave close to 0. In the evidence `e = K b / u` that divisor
    cancels out: `1 + e / K = (1 + e1 / K) (1 + e2 / K)`. So evidence is fused
    by a sum of logs, in any order, and nothing is ever divided.

    Args:
        evidence: Non-negative `(batch, n_modalities, num_classes)`; an
            opinion without evidence changes nothing.

    Returns:
        `(batch, num_classes)`, logs of the fused evidence plus one.
    """
    classes = evidence.shape[-1]
    log_growth = ops.sum(ops.log(1.0 + evidence / classes), axis=1)
    # log(1 + K (exp(log_growth) - 1)), without the overflow.
    return (
        math.log(classes)
        + log_growth
        + ops.log(1.0 + (1.0 / classes - 1.0) * ops.exp(-log_growth))
    )


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained()
class TMC(EvidentialModel):
    """Trusted multi-view classification: fuse opinions, not features.

    A linear head on each modality's feature gives the evidence
    `e = softplus(head(feature))` for every class, so the concentrations
    `alpha = e + 1` of a Dirichlet distribution with the total `S`. Read as an
    opinion, this is the belief `e / S` in each class and the uncertainty
    `K / S`, the mass that is left. Opinions are fused by Dempster's reduced
    rule: what is certain counts most, and evidence adds up.

    A missing modality is an opinion without evidence, which changes nothing.
    A sample without any modality has no evidence either, and the class prior
    instead of equal chances.

    The loss is the expected cross-entropy of the fused opinion
    (`EvidentialCrossentropy`), the same of every present modality, summed,
    as `modality_loss`, and `kl_loss`, which takes evidence away from wrong
    classes, in the fused and in each modality's opinion. Its weight grows
    with the progress of the training (`keras_mmrel.models.Clock`), from 0 in
    the first step to 1 after the fraction `annealing`.

    `logits` and `modality_logits` are logs of `alpha`, so that
    `probabilities` are the means `alpha / S`, and `confidence` is
    `1 - uncertainty` of the modality. Outputs beside those of every model:

    - `uncertainty`: `(batch,)` in (0, 1], of the fused opinion.
    - `belief`: `(batch, n_modalities, num_classes)`, of each modality, 0
      where missing. A modality's beliefs and uncertainty sum to 1.

    Uncertainty is learnt from the training data. For inputs unlike any of
    them, such as much larger ones, a linear head may well find much evidence.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        annealing: Number in [0, 1], the fraction of the training in which
            the weight of `kl_loss` grows to 1; 0 for 1 from the start. The
            authors use 50 of 500 epochs, with a linear map of the inputs. In
            short trainings of encoders with a hidden layer that takes the
            evidence of the right class away, too, before there is any: of 68
            classes none was learnt in 360 steps with 0.1, and half of the
            training samples with 1.
        modality_loss_weight: Non-negative float, weight of `modality_loss`.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> model = keras_mmrel.TMC({"a": (8,), "b": (4,)}, 3)
    >>> model.compile()
    >>> rng = np.random.default_rng(0)
    >>> x = {"a": rng.uniform(size=(30, 8)), "b": rng.uniform(size=(30, 4))}
    >>> history = model.fit(x, np.arange(30) % 3, verbose=0)
    >>> out = model.predict(x, verbose=0)
    >>> out["belief"].shape, out["uncertainty"].shape
    ((30, 2, 3), (30,))

    References:
        - [Han et al., 2021, Trusted multi-view
          classification](https://arxiv.org/abs/2102.02051). The opinions, the
          rule and the loss are the paper's. This library's own: the rule in
          a form without a division, the opinion of a missing modality, the
          weight of `modality_loss`, and an annealing by steps, over the whole
          training by default.
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        annealing: float = 1.0,
        modality_loss_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            annealing=annealing,
            modality_loss_weight=modality_loss_weight,
            **kwargs,
        )
        self.build_from_modalities()

    def fuse_evidence(self, evidence: Tensor, mask: Tensor) -> Tensor:
        return fused_log_concentrations(evidence)
