from typing import Any

import keras

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.models.auxiliary_paths import OPTIONS
from keras_mmrel.models.auxiliary_paths import AuxiliaryPaths
from keras_mmrel.models.shared_head_model import SharedHeadModel


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(**OPTIONS)
class AIM(SharedHeadModel):
    """Train the modalities to do without one another's best channels.

    Joint training lets one modality dominate, and inside each encoder some
    filters learn little. In training AIM runs every encoder a second time,
    through an *auxiliary path* that is reduced, sample by sample and depth by
    depth, to the channels that tell the classes apart least. The classifier
    has to do with that weak feature in place of the full one. Inference runs
    the plain network.

    `keras_mmrel.models.AuxiliaryPaths` is the part that does all of this, for
    other models too; it says which losses there are, and how strengths and
    masks come about. What is on by default is `rely_loss`, by which the other
    encoders learn what a dominant modality kept from them. `target_loss`,
    which is to train the weak channels themselves, is off: on the data that
    we have it changed nothing that could be measured, and the dominant
    modality did not become better by it. With `auxiliary="zeros"` it is
    training with one modality left out, a soft unimodal loss, which was as good
    wherever we looked.

    Outputs are those of `keras_mmrel.ConcatFusion`; the logs have the losses,
    which are 0 in evaluation, and `<modality>_strength`, the mean over depths.

    Args:
        modalities: As in `MultimodalModel`; an encoder must be made of blocks:
            a list of layers, a layer with a list `blocks` (such as
            `MLPEncoder`, `ConvEncoder`, `ImageEncoder` or `TextEncoder`), a
            `keras.Sequential` that begins with `keras.Input`, or a shape for
            which one is made. What such a layer does after its blocks is
            replaced by the mean over positions. Encoders may differ in
            depth. `encoders.split_backbone` cuts a backbone.
        num_classes: Integer of at least 2.
        rely_weight: Non-negative float, as in
            `keras_mmrel.models.AuxiliaryPaths`.
        target_weight: Likewise.
        auxiliary: Likewise, `"under_optimised"`, `"over_optimised"`,
            `"random"` or `"zeros"`.
        strength: Likewise, `"imbalance"` or a number in [0, 1].
        mask_fraction: Likewise, in (0, 1).
        warmup: Likewise, in [0, 1].
        modality_loss_weight: Non-negative float, weight of each modality's
            own cross-entropy; combine AIM with 1 to 3 where accuracy counts.
        fusion: `None`, or a layer from the features to logits, as in
            `keras_mmrel.ConcatFusion`.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `MultimodalModel`, and arguments of `keras.Model`.

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
        rely_weight: float = 1.0,
        target_weight: float = 0.0,
        auxiliary: str = "under_optimised",
        strength: str | float = "imbalance",
        mask_fraction: float = 0.25,
        warmup: float = 0.15,
        modality_loss_weight: float = 0.0,
        fusion: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        names = AuxiliaryPaths.loss_names(rely_weight, target_weight)
        super().__init__(
            modalities,
            num_classes,
            modality_loss_weight=modality_loss_weight,
            auxiliary_loss_names=names,
            fusion=fusion,
            **kwargs,
        )
        self.warmup = warmup
        self.paths = AuxiliaryPaths(
            self,
            rely_weight=rely_weight,
            target_weight=target_weight,
            auxiliary=auxiliary,
            strength=strength,
            mask_fraction=mask_fraction,
            warmup=warmup,
        )
        self.build_from_modalities()

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        features, record = self.paths.encode(inputs, training)
        return self.head_outputs(features, inputs, training, record)

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        return {
            **super().auxiliary_losses(y, outputs, sample_weight),
            **self.paths.losses(y, outputs, sample_weight),
        }

    def update_statistics(self, y: Labels, outputs: Outputs) -> None:
        self.paths.update_statistics(y, outputs)

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        return self.paths.callbacks()

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "rely_weight": self.paths.weights["rely_loss"],
            "target_weight": self.paths.weights["target_loss"],
            "auxiliary": self.paths.auxiliary,
            "strength": self.paths.strength,
            "mask_fraction": self.paths.mask_fraction,
            "warmup": self.warmup,
        }
