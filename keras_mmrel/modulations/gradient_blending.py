import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Model
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.state import add_state


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(weights=Either(Every(Number(0)), None))
class GradientBlending(GradientModulation):
    """Gradient blending: a loss a modality, weighed by how it overfits.

    The loss is a weighted sum of the model's and of the cross-entropies of
    `modality_logits`; the weights add up to 1. `estimated` finds them as the
    paper says: each modality, and all together, trains for some epochs by
    itself. With the loss on validation data `V` and on training data `T`,
    before and after, generalisation is `G = V_before - V_after`, overfitting
    `O = (V_after - T_after) - (V_before - T_before)`, and a weight is in
    proportion to `|G| / O^2`. Give it the weights once (the paper's offline
    form), or estimate anew from the model after some epochs (online).

    Weights are logged for each epoch as `<modality>_blend` and `joint_blend`;
    validation losses are the model's own. Outside its window (`warmup`,
    `until`) the loss is the model's.

    There is no released code of the authors' for weights; the definitions are
    those of the paper as others cite them. BalanceBenchmark (commit 4c1482f)
    computes weights from losses, and a loss from weights, as this class does,
    to 1e-6; but it sums losses over batches, so that validation and training
    count by their sizes, and takes the first epoch for the beginning. Heads
    of the modalities are the model's, where the paper has one for each;
    missing modalities are this library's own.

    Args:
        weights: One non-negative number a modality, in order, and a positive
            one for the model's loss; only their ratios count. `None` for all
            the same.
        **kwargs: Arguments of `GradientModulation`; `apply_to` is of no
            account.

    Raises:
        ValueError: If `weights` are not as above.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> blending = keras_mmrel.modulations.GradientBlending([1.0, 2.0, 1.0])
    >>> model.compile("sgd", modulation=blending)
    >>> x = {"a": np.ones((4, 8)), "b": np.ones((4, 4))}
    >>> history = model.fit(x, np.array([0, 1, 2, 0]), verbose=0).history
    >>> history["b_blend"]
    [0.5]

    References:
        - [Wang et al., 2020, What Makes Training Multi-Modal Classification
          Networks Hard?](https://arxiv.org/abs/1905.12681)
    """

    def __init__(
        self, weights: Sequence[float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**{"apply_to": "gradients", **kwargs})
        self.weights_given = None if weights is None else list(weights)

    @classmethod
    @constrained(epochs=Integer(1), batch_size=Integer(1))
    def estimated(
        cls,
        model: Model,
        x: Modalities,
        y: Labels,
        validation_data: tuple[Modalities, Labels],
        epochs: int = 5,
        batch_size: int = 32,
        **kwargs: Any,
    ) -> "GradientBlending":
        """Train copies of a model on each modality alone, and on all.

        Args:
            model: A model, which stays as it is. Its copies begin with its
                weights and its optimizer's options.
            x: Dict of arrays.
            y: Labels.
            validation_data: `(x, y)` that nothing is trained on, and that is
                no test data either.
            epochs: Positive integer, how long each copy trains.
            batch_size: Positive integer.
            **kwargs: Arguments of the modulation.
        """
        before, after = [], []
        for index in (*range(len(model.modality_names)), None):
            trial = _copy_of(model)
            train = _alone(model, (x, y), index)
            parts = train, _alone(model, validation_data, index)
            with warnings.catch_warnings():
                # That the other modalities tell nothing is meant so.
                warnings.simplefilter("ignore", UserWarning)
                before.append(_losses(trial, parts))
                trial.fit(
                    *train, epochs=epochs, batch_size=batch_size, verbose=0
                )
                after.append(_losses(trial, parts))
        return cls(blending_weights(before, after), **kwargs)

    def check_model(self, model: Model) -> None:
        super().check_model(model)
        given, count = self.weights_given, len(model.modality_names) + 1
        if given is not None and (len(given) != count or not given[-1]):
            raise ValueError(
                f"`weights` must be {count} numbers, one a modality and a "
                f"positive one for the model's loss. Received: weights={given}"
            )

    def setup(self, model: Model) -> None:
        fresh = not self.built
        super().setup(model)
        if fresh:
            count = len(self.modality_names) + 1
            given = np.array(self.weights_given or [1.0] * count)
            self.blend.assign(given / given.sum())

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        self.blend = add_state(self, "blend", (input_shape[-1] + 1,), "ones")

    def get_build_config(self) -> None:
        # A loaded one waits for `compile`, which knows the weights.
        return None

    def modulate_outputs(
        self, labels: Tensor, outputs: Outputs, sample_weight: Tensor
    ) -> tuple[Outputs, Tensor]:
        weight = ops.where(self.active > 0, self.blend[-1], 1.0)
        if sample_weight is None:
            return outputs, weight * ops.ones_like(labels[:, 0])
        given = ops.convert_to_tensor(sample_weight, "float32")
        return outputs, weight * ops.reshape(given, (-1,))

    def added_loss(
        self, labels: Tensor, outputs: Outputs, sample_weight: Tensor
    ) -> Tensor:
        log_p = ops.log_softmax(outputs[MODALITY_LOGITS], axis=-1)
        losses = -ops.sum(labels[:, None, :] * log_p, axis=-1)
        # The weight of the model's loss is in `sample_weight` already.
        ratios = self.blend[:-1] / self.blend[-1] * (self.active + 0.0)
        return mean_over_samples(losses * outputs[MASK] * ratios, sample_weight)

    def epoch_logs(self) -> dict[str, float]:
        names = [*self.modality_names, "joint"]
        values = ops.convert_to_numpy(self.blend)
        logs = {
            f"{name}_blend": float(value)
            for name, value in zip(names, values, strict=True)
        }
        return {**super().epoch_logs(), **logs}

    def get_config(self) -> dict:
        return {**super().get_config(), "weights": self.weights_given}


def blending_weights(
    before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]
) -> list[float]:
    """Return weights that add up to 1 from losses, one row a training.

    Args:
        before: Training and validation loss of each, `(trainings, 2)`.
        after: The same after it.
    """
    change = np.array(after, "float64") - np.array(before, "float64")
    generalization = np.abs(change[:, 1])
    overfitting = change[:, 1] - change[:, 0]
    # What does not overfit at all would have all of the weight.
    weights = generalization / np.maximum(overfitting**2, 1e-12)
    if not weights.sum() > 0:
        weights = np.ones_like(weights)
    return [float(weight) for weight in weights / weights.sum()]


def _copy_of(model: Model) -> Model:
    """Return a model of its own with the same weights and optimizer."""
    copy = type(model).from_config(model.get_config())
    for a, b in (
        (copy.trainable_variables, model.trainable_variables),
        *(
            (c.non_trainable_weights, m.non_trainable_weights)
            for c, m in zip(copy.encoders, model.encoders, strict=True)
        ),
    ):
        for target, source in zip(a, b, strict=True):
            target.assign(ops.copy(ops.convert_to_tensor(source)))
    config = model.get_compile_config() or None
    if config is None:
        copy.compile(modulation=None)
    else:
        copy.compile_from_config({**config, "modulation": None})
    return copy


def _alone(
    model: Model, data: tuple[Modalities, Labels], index: int | None
) -> tuple[dict[str, Any], Array]:
    """Samples that have a modality, without the others; all for `None`."""
    x, y = data
    if not isinstance(x, Mapping):
        raise ValueError(
            "`x` must be a dict of modality name -> array. Received: "
            f"{type(x).__name__}"
        )
    if index is None:
        return dict(x), np.asarray(y)
    count = len(model.modality_names)
    given = x.get(MASK)
    mask = np.ones((len(y), count)) if given is None else np.asarray(given)
    rows = mask[:, index] > 0
    only = np.zeros((int(rows.sum()), count), "float32")
    only[:, index] = 1.0
    part = keras.tree.map_structure(lambda v: np.asarray(v)[rows], dict(x))
    return {**part, MASK: only}, np.asarray(y)[rows]


def _losses(model: Model, parts: Sequence[tuple]) -> list[float]:
    return [
        model.evaluate(*part, verbose=0, return_dict=True)["loss"]
        for part in parts
    ]
