import math
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.encoders.block_encoder import mean_over_positions
from keras_mmrel.layers._auxiliary_block_encoder import SELECTIONS
from keras_mmrel.layers._auxiliary_block_encoder import AuxiliaryBlockEncoder
from keras_mmrel.models._quality import weighed
from keras_mmrel.models.modality_inputs import keep_present
from keras_mmrel.models.prototype_injection import inject_prototypes
from keras_mmrel.models.shared_head_model import SharedHeadModel


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    auxiliary_loss_weight=Number(0),
    strength=Either("adaptive", Number(0, 1)),
    strength_floor=Number(0, 1),
    strength_slope=Number(0),
    mask_fraction=Number(0, 1, low_open=True, high_open=True),
    selection=Choice(*SELECTIONS),
    prototypes=Choice("centroids", "injected"),
    paths=Choice("two", "single"),
    split_batch=Flag(),
    warmup=Number(0, 1),
)
class AIM(SharedHeadModel):
    """Train what is under-optimised inside every encoder, at every depth.

    Joint training lets one modality dominate, and inside each encoder some
    filters learn little. AIM runs every encoder a second time in training,
    through an *auxiliary path* that is reduced, sample by sample and depth by
    depth, to the channels that tell the classes apart least
    (`keras_mmrel.layers.AuxiliaryBlockEncoder`). The classifier has to do
    with that weak feature in place of the full one: the selected filters of
    the modality learn to carry the decision, and so do the other modalities'
    encoders, which can no longer lean on a dominant one. Inference runs the
    plain network.

    How often a depth is gated, its strength, follows the imbalance there:
    with `s` a depth's performance and `r` its ratio to the mean performance
    of the other modalities at the same relative depth, the probability is
    `max(tanh(strength_slope * relu(r - 1)), strength_floor)`. A floor of 0
    leaves all but the leading modality alone.

    The first `warmup` of the training is joint training. Masks are renewed at
    the beginning of every epoch that uses them. `fit` does this by itself.

    Outputs are those of `MultimodalModel`; the logs have `auxiliary_loss`,
    which is 0 in evaluation, and `<modality>_strength`, the mean over depths.

    Args:
        modalities: As in `MultimodalModel`; an encoder must be made of blocks:
            a list of layers, a layer with a list `blocks` (such as
            `MLPEncoder`, `ConvEncoder` or `BlockEncoder`), or a shape for
            which one is made. What such a layer does after its blocks is
            replaced by the mean over positions. Encoders may differ in
            depth. For a backbone see `encoders.split_backbone`.
        num_classes: Integer of at least 2.
        auxiliary_loss_weight: Non-negative float, weight of `auxiliary_loss`,
            the cross-entropies with each modality's auxiliary feature in
            turn, summed over modalities.
        strength: `"adaptive"`, or a number in [0, 1], the same for every
            modality and depth.
        strength_floor: Float in [0, 1].
        strength_slope: Non-negative float.
        mask_fraction: Float in (0, 1), fraction of the channels in a mask;
            with all of them the auxiliary path would be the main one.
        selection: Which channels: `"under_optimised"`, `"random"`,
            `"over_optimised"` or `"none"`, as in `AuxiliaryBlockEncoder`.
        prototypes: Of which the statistics make use: `"centroids"` are moving
            averages of the class means; `"injected"` are what the network
            itself takes for each class at each depth, found anew every 15 %
            of the epochs (`inject_prototypes`), which takes a few seconds.
        paths: `"two"`, or `"single"` to put the gates into the main path and
            have no auxiliary loss.
        split_batch: Whether every modality's auxiliary path runs on its own
            part of the batch rather than on all of it. That costs `1 + 1/M`
            times a step of joint training instead of 2 times.
        warmup: Float in [0, 1], fraction of the training before AIM begins,
            see `keras_mmrel.models.Clock.warmup_steps`.
        modality_loss_weight: Non-negative float, weight of each modality's
            own cross-entropy; combine AIM with 1 to 3 where accuracy counts.
        augmentation: As in `MultimodalModel`.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If an encoder has no blocks, or an argument is outside
            its range.

    Example:

    >>> model = keras_mmrel.AIM({"audio": (16, 8), "image": (8, 8, 1)}, 3)
    >>> model.compile()
    >>> draw = np.random.default_rng(0).uniform
    >>> x = {"audio": draw(size=(4, 16, 8)), "image": draw(size=(4, 8, 8, 1))}
    >>> history = model.fit(x, np.array([0, 1, 2, 0]), verbose=0).history
    >>> sorted(key for key in history if key.endswith("strength"))
    ['audio_strength', 'image_strength']

    References:
        - [AIM, 2025](https://arxiv.org/abs/2508.19769). Roles follow the
          abstract; the paper's equations were not available to us, every
          formula here is this library's own, and no result is a
          reproduction.
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        auxiliary_loss_weight: float = 1.0,
        strength: str | float = "adaptive",
        strength_floor: float = 0.3,
        strength_slope: float = 1.0,
        mask_fraction: float = 0.25,
        selection: str = "under_optimised",
        prototypes: str = "centroids",
        paths: str = "two",
        split_batch: bool = True,
        warmup: float = 0.15,
        modality_loss_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            modality_loss_weight=modality_loss_weight,
            auxiliary_loss_names=("auxiliary_loss",) if paths == "two" else (),
            **kwargs,
        )
        self.auxiliary_loss_weight = auxiliary_loss_weight
        self.strength = strength
        self.strength_floor = strength_floor
        self.strength_slope = strength_slope
        self.mask_fraction = mask_fraction
        self.selection = selection
        self.prototypes = prototypes
        self.paths = paths
        self.split_batch = split_batch
        self.warmup = warmup
        self.encoders = [
            AuxiliaryBlockEncoder(
                self._blocks(name, encoder),
                num_classes,
                mask_fraction=mask_fraction,
                selection=selection,
                moving_prototypes=prototypes == "centroids",
                seed=self.seed + index,
                name=encoder.name,
                dtype=self.dtype_policy,
            )
            for index, (name, encoder) in enumerate(
                zip(self.modality_names, self.encoders, strict=True)
            )
        ]
        self.build_from_modalities()

    def _blocks(self, name: str, encoder: keras.layers.Layer) -> Any:
        blocks = getattr(encoder, "blocks", None)
        if not isinstance(blocks, list | tuple) or not blocks:
            raise ValueError(
                f"`modalities['{name}']` must be a shape, a list of layers, or "
                "an encoder with a list `blocks`; "
                "`keras_mmrel.encoders.split_backbone` cuts a backbone into "
                f"blocks. Received: {encoder!r}"
            )
        return list(blocks)

    # -- The two paths -------------------------------------------------------

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        mask = inputs[MASK]
        gated = bool(training) and self.paths == "single"
        outputs = [
            encoder(
                inputs[name], training=training, gated=gated, return_blocks=True
            )
            for name, encoder in zip(
                self.modality_names, self.encoders, strict=True
            )
        ]
        pooled = [
            [mean_over_positions(x) for x in blocks] for blocks in outputs
        ]
        partial_logits = self.classify(
            [
                weighed(features[-1], inputs, index)
                for index, features in enumerate(pooled)
            ]
        )
        record: dict[str, Any] = {}
        if training:
            record["depth_features"] = pooled
        if training and self.paths == "two":
            record["auxiliary_logits"] = self._auxiliary_logits(
                outputs, partial_logits, mask
            )
        return self.head_outputs(partial_logits, inputs, training_record=record)

    def _auxiliary_logits(
        self, outputs: list, partial_logits: Tensor, mask: Tensor
    ) -> Tensor:
        """Logits with one modality's weak part beside the others' full ones.

        Returns:
            `(rows, n_modalities, num_classes)`, where the rows are those of
            `rows_of_each` and the axis says whose part is weak.
        """
        weak = [
            keep_present(encoder.auxiliary_path(blocks[0]), present)
            for encoder, blocks, present in zip(
                self.encoders,
                self.rows_of_each([blocks[:1] for blocks in outputs]),
                self.rows_of_each(
                    [mask[:, i] for i in range(len(self.encoders))]
                ),
                strict=True,
            )
        ]
        count = len(self.encoders)
        logits = ops.sum(partial_logits, axis=1) + self.bias
        full = ops.stack(self.rows_of_each([logits] * count), axis=1)
        own = self.rows_of_each([partial_logits[:, i] for i in range(count)])
        return full + self.classify(weak) - ops.stack(own, axis=1)

    def rows_of_each(self, values: list[Any]) -> list[Any]:
        """Take from each modality's tensors the rows of its auxiliary path.

        Args:
            values: One tensor, or list of tensors, a modality, batch first.
        """
        count = len(values)
        if not self.split_batch or count == 1:
            return values
        batch = ops.shape(keras.tree.flatten(values)[0])[0]
        size = (batch + count - 1) // count
        starts = [i * (batch - size) // (count - 1) for i in range(count)]
        return [
            keras.tree.map_structure(lambda x, s=s: x[s : s + size], value)
            for value, s in zip(values, starts, strict=True)
        ]

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        terms = super().auxiliary_losses(y, outputs, sample_weight)
        if self.paths == "single":
            return terms
        loss: Any = ops.zeros(())
        if TRAINING_RECORD in outputs:
            count = len(self.encoders)
            labels = one_hot_labels(y, self.num_classes)
            gated = ops.stack([ops.max(e.strength) for e in self.encoders])
            weight = outputs[MASK] * ops.cast(gated > 0, "float32")
            if sample_weight is not None:
                sample_weight = ops.cast(sample_weight, "float32")
                weight = weight * ops.reshape(sample_weight, (-1, 1))
            labels = ops.stack(self.rows_of_each([labels] * count), axis=1)
            weight = ops.stack(
                self.rows_of_each([weight[:, i] for i in range(count)]), axis=1
            )
            log_p = ops.log_softmax(
                outputs[TRAINING_RECORD]["auxiliary_logits"], axis=-1
            )
            losses = -ops.sum(labels * log_p, axis=-1) * weight
            loss = ops.sum(ops.mean(losses, axis=0))
            loss = self.auxiliary_loss_weight * loss
        return {**terms, "auxiliary_loss": loss}

    # -- Statistics ----------------------------------------------------------

    def update_statistics(self, y: Labels, outputs: Outputs) -> None:
        labels = one_hot_labels(y, self.num_classes)
        for index, encoder in enumerate(self.encoders):
            encoder.update_statistics(
                outputs[TRAINING_RECORD]["depth_features"][index],
                labels,
                outputs[MASK][:, index],
            )
        performances = [
            ops.stack([s.performance + 0.0 for s in encoder.statistics])
            for encoder in self.encoders
        ]
        strengths = self.depth_strengths(performances)
        active = self.clock.warmed_up(self.warmup)
        for encoder, strength in zip(self.encoders, strengths, strict=True):
            encoder.strength.assign(active * strength)

    def depth_strengths(self, performances: list[Any]) -> list[Any]:
        """Gate probability of every depth.

        Args:
            performances: One `(depths,)` a modality; modalities may differ in
                depth.

        Returns:
            One `(depths,)` a modality, in [0, 1].
        """
        if self.strength != "adaptive":
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
            rise = self.strength_slope * ops.relu(ratio - 1.0)
            strengths.append(ops.maximum(ops.tanh(rise), self.strength_floor))
        return strengths

    # -- Epochs --------------------------------------------------------------

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        return [
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: self.begin_epoch(epoch),
                on_epoch_end=lambda epoch, logs: logs.update(self._logs()),
            )
        ]

    def begin_epoch(self, epoch: int) -> None:
        """Renew the masks and, where they are injected, the prototypes.

        Every `fit` does it by itself.

        Args:
            epoch: Number of the epoch that begins, from 0.
        """
        steps, warmup = self._epoch_and_warmup()
        done = float(ops.convert_to_numpy(self.clock.step))
        # Masks that the epoch will not use stay as they are.
        if not self.built or done + steps <= warmup:
            return
        if self.prototypes == "injected" and self._injects_in(epoch):
            inject_prototypes(self, seed=epoch)
        for encoder in self.encoders:
            encoder.refresh_masks(epoch)

    def _injects_in(self, epoch: int) -> bool:
        """Every 15 % of the epochs, from the end of the warm-up on."""
        steps, warmup = self._epoch_and_warmup()
        planned = float(ops.convert_to_numpy(self.clock.planned_steps))
        first = math.ceil(warmup / steps)
        every = max(1, round(0.15 * planned / steps))
        return epoch >= first and (epoch - first) % every == 0

    def _epoch_and_warmup(self) -> tuple[float, float]:
        """Steps of an epoch, at least 1, and of the warm-up."""
        steps = float(ops.convert_to_numpy(self.clock.epoch_steps))
        warmup = self.clock.warmup_steps(self.warmup)
        return max(steps, 1.0), float(ops.convert_to_numpy(warmup))

    def _logs(self) -> dict[str, float]:
        return {
            f"{name}_strength": float(
                ops.convert_to_numpy(encoder.strength).mean()
            )
            for name, encoder in zip(
                self.modality_names, self.encoders, strict=True
            )
        }

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "auxiliary_loss_weight": self.auxiliary_loss_weight,
            "strength": self.strength,
            "strength_floor": self.strength_floor,
            "strength_slope": self.strength_slope,
            "mask_fraction": self.mask_fraction,
            "selection": self.selection,
            "prototypes": self.prototypes,
            "paths": self.paths,
            "split_batch": self.split_batch,
            "warmup": self.warmup,
        }
