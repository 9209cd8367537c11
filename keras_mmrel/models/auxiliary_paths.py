from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Constraint
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Model
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.encoders._split_backbone import natural_blocks
from keras_mmrel.layers._auxiliary_block_encoder import SELECTIONS
from keras_mmrel.layers._auxiliary_block_encoder import AuxiliaryBlockEncoder
from keras_mmrel.models._quality import relative_quality
from keras_mmrel.models._quality import weighed
from keras_mmrel.models.modality_inputs import keep_present
from keras_mmrel.models.multimodal_model import MultimodalModel

ZEROS = "zeros"
# Least strength of a depth by imbalance.
FLOOR = 0.3


OPTIONS: dict[str, Constraint] = {
    "rely_weight": Number(0),
    "target_weight": Number(0),
    "auxiliary": Choice(*SELECTIONS, ZEROS),
    "strength": Either("imbalance", Number(0, 1)),
    "mask_fraction": Number(0, 1, low_open=True, high_open=True),
    "warmup": Number(0, 1),
}


@constrained(
    model=Instance(MultimodalModel, "a `keras_mmrel.models.MultimodalModel`"),
    **OPTIONS,
)
class AuxiliaryPaths:
    """What AIM adds to a model: a weak feature of each modality, in training.

    `keras_mmrel.AIM` is a model with this part, and any other model can take
    it that has encoders made of blocks and a method `fuse(features)`, from
    one feature a modality to logits `(batch, num_classes)`; how it fuses does
    not matter. For a modality `m` with the feature `f`, the auxiliary path
    (the same encoder, reduced at every depth to some channels) gives a weak
    feature `w`. The classifier gets it in place of `f`, and two losses come
    of that, told apart by where gradients stop:

    - `rely_loss`: the other modalities' encoders and the fusion learn to
      decide where `m` is weak. The auxiliary path needs no backward pass.
    - `target_loss`: the channels that were kept learn to carry the decision;
      the other modalities' encoders do not learn from it.

    Both together give encoders the gradient of one cross-entropy that stops
    nowhere. Each modality's path runs on its own part of the batch: encoders
    run forward on `1 + 1/M` times the samples. Fusing once more for every
    modality, the losses and the statistics of depths cost beside that, so that
    a step takes about twice as long as without, with small encoders.
    Inference is the plain model.

    How often a depth is reduced, its strength, follows the imbalance there:
    with `r` the ratio of the depth's performance to the mean of the other
    modalities at the same relative depth, a sample is reduced with the
    probability `max(tanh(relu(r - 1)), 0.3)`. The first `warmup` of the
    training goes without, and masks are renewed at the beginning of every
    epoch after it.

    Args:
        model: A `MultimodalModel` with `fuse`, whose `encoders` are made
            already, each a layer with a list `blocks`, such as one given as a
            list of layers. They are replaced by layers that have an auxiliary
            path.
        rely_weight: Non-negative float, weight of `rely_loss`, a sum over
            modalities; at 0 there is none.
        target_weight: Likewise, of `target_loss`.
        auxiliary: What the weak feature is: of the `"under_optimised"`,
            `"over_optimised"` or `"random"` channels, or `"zeros"`, a feature
            of zeros for every sample, which is the control that all others
            have to beat, and costs nothing.
        strength: `"imbalance"`, or a number in [0, 1], the same for every
            modality and depth.
        mask_fraction: Float in (0, 1), fraction of the channels that is kept;
            with all of them the auxiliary path would be the main one.
        warmup: Float in [0, 1], fraction of the training before it begins,
            see `keras_mmrel.models.Clock.warmup_steps`.

    Raises:
        ValueError: If an encoder has no blocks, the model no `fuse` or all
            its weights already, or an argument is outside its range.

    Example:

    >>> class Gated(keras_mmrel.models.MultimodalModel):
    ...     def __init__(self, modalities, num_classes, **kwargs):
    ...         super().__init__(
    ...             modalities, num_classes,
    ...             auxiliary_loss_names=["rely_loss"], **kwargs)
    ...         self.gate = keras.layers.Dense(8, "sigmoid")
    ...         self.head = keras.layers.Dense(num_classes)
    ...         self.paths = keras_mmrel.models.AuxiliaryPaths(self)
    ...         self.build_from_modalities()
    ...     def fuse(self, features):
    ...         a, b = features
    ...         gate = self.gate(keras.ops.concatenate([a, b], axis=1))
    ...         return self.head(gate * a + (1 - gate) * b)
    ...     def call(self, inputs, training=None):
    ...         inputs = self.augment(self.prepare_inputs(inputs), training)
    ...         features, record = self.paths.encode(inputs, training)
    ...         logits = self.fuse(features)
    ...         each = keras.ops.stack([logits, logits], axis=1)
    ...         return self.make_outputs(
    ...             logits, each, inputs, training_record=record)
    ...     def auxiliary_losses(self, y, outputs, sample_weight=None):
    ...         return self.paths.losses(y, outputs, sample_weight)
    ...     def update_statistics(self, y, outputs):
    ...         self.paths.update_statistics(y, outputs)
    ...     def training_callbacks(self):
    ...         return self.paths.callbacks()
    >>> blocks = {n: [keras.layers.Dense(8, "relu")] for n in "ab"}
    >>> model = Gated(blocks, 2)
    >>> model.compile()
    >>> x = np.random.default_rng(0).normal(size=(8, 4))
    >>> log = model.fit({"a": x, "b": x}, np.arange(8) % 2, verbose=0)
    >>> "rely_loss" in log.history
    True

    References:
        - [AIM, 2025](https://arxiv.org/abs/2508.19769), whose auxiliary
          blocks these are. Its equations were not available to us: every
          formula is this library's own, and so are the two losses.
    """

    def __init__(
        self,
        model: Model,
        *,
        rely_weight: float = 1.0,
        target_weight: float = 0.0,
        auxiliary: str = "under_optimised",
        strength: str | float = "imbalance",
        mask_fraction: float = 0.25,
        warmup: float = 0.15,
    ) -> None:
        fuse = getattr(model, "fuse", None)
        if (rely_weight or target_weight) and not callable(fuse):
            raise ValueError(
                f"`model` must have a method `fuse(features)`. Received: "
                f"{type(model).__name__} with fuse={fuse!r}"
            )
        if model.built:
            raise ValueError(
                "`model` must get its paths before it is built, at the end of "
                f"its `__init__`. Received: a built {type(model).__name__}"
            )
        self.model = model
        self.weights = {"rely_loss": rely_weight, "target_loss": target_weight}
        self.auxiliary = auxiliary
        self.strength = strength
        self.mask_fraction = mask_fraction
        self.warmup = warmup
        model.encoders = [
            AuxiliaryBlockEncoder(
                _blocks(name, encoder),
                model.num_classes,
                mask_fraction=mask_fraction,
                # Nothing is chosen where the feature is zero.
                selection=SELECTIONS[0] if auxiliary == ZEROS else auxiliary,
                seed=model.seed + index,
                name=encoder.name,
                dtype=model.dtype_policy,
            )
            for index, (name, encoder) in enumerate(
                zip(model.modality_names, model.encoders, strict=True)
            )
        ]

    @staticmethod
    def loss_names(rely_weight: float, target_weight: float) -> tuple:
        """Names of the losses with these weights."""
        weights = {"rely_loss": rely_weight, "target_loss": target_weight}
        return tuple(name for name, weight in weights.items() if weight)

    # -- The two paths -------------------------------------------------------

    def encode(
        self, inputs: Modalities, training: bool | None = None
    ) -> tuple[list[Tensor], dict[str, Any]]:
        """Encode prepared inputs, in training by both paths.

        Args:
            inputs: What `augment` returned.
            training: Whether the model is in training.

        Returns:
            One feature `(batch, d)` a modality, as of the model's own
            `encode`, and what belongs into the training record.
        """
        model = self.model
        outputs = [
            encoder(inputs[name], training=training, return_depths=True)
            for name, encoder in zip(
                model.modality_names, model.encoders, strict=True
            )
        ]
        pooled = [own for own, _, _ in outputs]
        features = [
            weighed(own[-1], inputs, index) for index, own in enumerate(pooled)
        ]
        if not training:
            return features, {}
        record: dict[str, Any] = {"depth_features": pooled}
        if any(self.weights.values()):
            first = [x for _, x, _ in outputs]
            masks = [own for _, _, own in outputs]
            weak = self._weak_features(first, masks, features, inputs)
            record["auxiliary_logits"] = self._logits(features, weak)
        return features, record

    def _weak_features(
        self,
        first: list[Tensor],
        masks: list[list[Tensor]],
        features: list[Tensor],
        inputs: Modalities,
    ) -> list[Tensor]:
        """One weak feature a modality, of its rows of the batch."""
        if self.auxiliary == ZEROS:
            return [ops.zeros_like(f) for f in self.rows_of_each(features)]
        count = len(first)
        believed = relative_quality(inputs)
        rows = zip(
            self.model.encoders,
            self.rows_of_each(first),
            self.rows_of_each(masks, first),
            self.rows_of_each([inputs[MASK][:, i] for i in range(count)]),
            self.rows_of_each([believed[:, i] for i in range(count)]),
            strict=True,
        )
        weak = []
        for encoder, x, mask, present, factor in rows:
            feature = encoder.auxiliary_path(x, *mask)
            feature = keep_present(feature, present)
            weak.append(feature * ops.cast(factor[:, None], feature.dtype))
        return weak

    def _logits(
        self, features: list[Tensor], weak: list[Tensor]
    ) -> dict[str, Tensor]:
        """Logits of each loss, `(rows, modalities, classes)`.

        The second axis says whose feature is the weak one.
        """
        stop = ops.stop_gradient
        found: dict[str, list[Tensor]] = {}
        for index, own in enumerate(weak):
            # Every modality's feature, in the rows of this one.
            rows = [
                self.rows_of_each([feature] * len(weak))[index]
                for feature in features
            ]
            for name, weight in self.weights.items():
                if not weight:
                    continue
                rely = name == "rely_loss"
                used = rows if rely else [stop(f) for f in rows]
                used = list(used)
                used[index] = stop(own) if rely else own
                found.setdefault(name, []).append(self.model.fuse(used))
        return {
            name: ops.stack([ops.cast(x, "float32") for x in logits], axis=1)
            for name, logits in found.items()
        }

    def rows_of_each(
        self, values: list[Any], like: list[Any] | None = None
    ) -> list[Any]:
        """Take from each modality's tensor the rows of its auxiliary path.

        Args:
            values: One tensor a modality, batch first, or a dict of such.
            like: Likewise, of the same batch, where `values` may be empty.
        """
        count = len(values)
        if count == 1:
            return values
        batch = ops.shape(keras.tree.flatten((like or values)[0])[0])[0]
        size = (batch + count - 1) // count
        starts = [i * (batch - size) // (count - 1) for i in range(count)]
        return [
            keras.tree.map_structure(
                lambda x, start=start: x[start : start + size], value
            )
            for value, start in zip(values, starts, strict=True)
        ]

    # -- Losses --------------------------------------------------------------

    def losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        """The auxiliary losses of a batch, 0 in evaluation.

        Args:
            y: Labels as passed to `fit`.
            outputs: What the model's `call` returned.
            sample_weight: `(batch,)` or `None`.
        """
        names = self.loss_names(*self.weights.values())
        if TRAINING_RECORD not in outputs or not names:
            return {name: ops.zeros(()) for name in names}
        encoders = self.model.encoders
        count = len(encoders)
        labels = one_hot_labels(y, self.model.num_classes)
        reduced = ops.stack([ops.max(e.strength) for e in encoders])
        weight = outputs[MASK] * ops.cast(reduced > 0, "float32")
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight, "float32")
            weight = weight * ops.reshape(sample_weight, (-1, 1))
        labels = ops.stack(self.rows_of_each([labels] * count), axis=1)
        weight = ops.stack(
            self.rows_of_each([weight[:, i] for i in range(count)]), axis=1
        )
        losses = {}
        for name in names:
            logits = outputs[TRAINING_RECORD]["auxiliary_logits"][name]
            log_p = ops.log_softmax(logits, axis=-1)
            loss = -ops.sum(labels * log_p, axis=-1) * weight
            loss = ops.sum(ops.mean(loss, axis=0))
            losses[name] = self.weights[name] * loss
        return losses

    # -- Statistics ----------------------------------------------------------

    def update_statistics(self, y: Labels, outputs: Outputs) -> None:
        """Learn from a training batch which depths and channels are weak."""
        model = self.model
        labels = one_hot_labels(y, model.num_classes)
        for index, encoder in enumerate(model.encoders):
            encoder.update_statistics(
                outputs[TRAINING_RECORD]["depth_features"][index],
                labels,
                outputs[MASK][:, index],
            )
        performances = [
            ops.stack([s.performance + 0.0 for s in encoder.statistics])
            for encoder in model.encoders
        ]
        strengths = self.depth_strengths(performances)
        active = model.clock.warmed_up(self.warmup)
        for encoder, strength in zip(model.encoders, strengths, strict=True):
            encoder.strength.assign(active * strength)

    def depth_strengths(self, performances: list[Any]) -> list[Any]:
        """Probability, at every depth, that a sample is reduced.

        Args:
            performances: One `(depths,)` a modality; modalities may differ in
                depth.

        Returns:
            One `(depths,)` a modality, in [0, 1].
        """
        if self.strength != "imbalance":
            return [ops.full(p.shape, self.strength) for p in performances]
        strengths = []
        for index, own in enumerate(performances):
            depths = own.shape[0]
            others = [
                # The block of the other encoder at the same relative depth.
                ops.stack(
                    [
                        other[-(-(d + 1) * other.shape[0] // depths) - 1]
                        for d in range(depths)
                    ]
                )
                for n, other in enumerate(performances)
                if n != index
            ] or [own]
            ratio = own / (sum(others) / len(others) + 1e-12)
            rise = ops.relu(ratio - 1.0)
            strengths.append(ops.maximum(ops.tanh(rise), FLOOR))
        return strengths

    # -- Epochs --------------------------------------------------------------

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Return what every `fit` needs: new masks, and logs."""
        return [
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: self.begin_epoch(epoch),
                on_epoch_end=lambda epoch, logs: logs.update(self._logs()),
            )
        ]

    def begin_epoch(self, epoch: int) -> None:
        """Renew the masks.

        Args:
            epoch: Number of the epoch that begins, from 0.
        """
        clock = self.model.clock
        steps, warmup, done = (
            float(ops.convert_to_numpy(value))
            for value in (
                clock.epoch_steps,
                clock.warmup_steps(self.warmup),
                clock.step,
            )
        )
        # Masks that the epoch will not use stay as they are.
        if not self.model.built or done + max(steps, 1.0) <= warmup:
            return
        for encoder in self.model.encoders:
            encoder.refresh_masks(epoch)

    def _logs(self) -> dict[str, float]:
        return {
            f"{name}_strength": float(
                ops.convert_to_numpy(encoder.strength).mean()
            )
            for name, encoder in zip(
                self.model.modality_names, self.model.encoders, strict=True
            )
        }


def _blocks(name: str, encoder: keras.layers.Layer) -> list:
    blocks = natural_blocks(encoder)
    if not blocks:
        raise ValueError(
            f"`modalities['{name}']` must be a shape, a list of layers, an "
            "encoder with a list `blocks`, a `keras.Sequential` that begins "
            "with `keras.Input`, or a backbone of stages; "
            "`keras_mmrel.encoders.split_backbone` cuts another one into "
            "blocks, and `TextEncoder` takes one that knows its padding. "
            f"Received: {encoder!r}"
        )
    return blocks
