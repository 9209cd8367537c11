import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import DEPTH
from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._checks import presence
from keras_mmrel.layers._row_skipping import run_by_depth
from keras_mmrel.layers._stack_features import check_stacked
from keras_mmrel.layers._stack_features import without_missing
from keras_mmrel.layers.depth_allocator import DepthAllocator
from keras_mmrel.seeds import known_seed
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    num_classes=NUM_CLASSES,
    max_depth=DEPTH,
    hidden_dim=SIZE,
    dropout=Number(0, 1, high_open=True),
    sharpness=Number(0),
    prototype_fraction=Number(0, 1),
    predicted_parameters=Flag(),
    quantiles=Every(Number(0, 1)),
    inference=Choice("masked", "skip"),
    seed=SEED,
)
class DynamicDepthFusion(TensorLayer):
    """Give every sample its own depth in every modality, and fuse by it.

    Each modality has a classifier of `max_depth` blocks. Every block reads
    the modality's features and adds its evidence to the class logits, so that
    the classifier can stop after any of them. A modality's *depth* is the
    number of blocks that run on it for one sample. It grows with the
    modality's confidence, on a scale between a low and a high quantile of the
    confidence of training samples, which moves in calls with `training=True`
    (see `DepthAllocator`): 0 at the low one, where the modality
    is not run and has no say, and `max_depth` from the high one on. Where no
    present modality reaches depth 1, all present ones run one block.

    Where `prototype_probabilities` are given, a modality's prediction is a
    mixture of its classifier's and those, which lends it what a classifier
    that depends on directions alone can see. The fused prediction is a
    product of experts: the mean log-probability of the modalities that run,
    times their number to the power `sharpness`, since agreeing experts are
    worth more than one. A modality of small depth has gathered little
    evidence, and so has little weight.

    Depth is a mask, so that the layer compiles to one graph. With
    `inference="skip"` rows are sorted by depth at inference and groups of
    rows without work are skipped: the same outputs, less time when many
    depths are small and the layer is large.

    No gradient flows into the depth.

    Args:
        num_classes: Integer of at least 2.
        max_depth: Positive integer `L`, the most blocks that run.
        hidden_dim: Positive integer, units of all blocks of a modality
            together; a multiple of `max_depth`.
        dropout: Float in `[0, 1)`, on the hidden units.
        sharpness: Float of at least 0, exponent of the number of modalities
            that run; 0 averages, 1 adds up as if they were independent.
        prototype_fraction: Float in [0, 1], weight of `prototype_probabilities`
            in a modality's prediction.
        predicted_parameters: Whether the hidden units from block 2 on are
            scaled by factors predicted for each sample, from what the first
            block of its most confident modality says.
        quantiles: Pair of floats `(low, high)` in [0, 1], the quantiles of
            clean training confidence at which depth is 0 and `max_depth`.
        inference: `"masked"` or `"skip"`.
        seed: Integer, or `None` to draw one. Seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor `(batch, modalities, features)`.
        confidence: Tensor `(batch, modalities)` in [0, 1].
        prototype_probabilities: `None` or a tensor
            `(batch, modalities, num_classes)`, `PrototypeConfidence`'s
            `probabilities`. No gradient flows into them.
        modality_mask: `None` or `(batch, modalities)`, 1 = present.
        depth: `None`, or a tensor `(batch, modalities)` of whole numbers: the
            depth to use, 0 for a missing modality, instead of the one that
            `allocator` gives.
        quality: `None`, or a tensor `(batch, modalities)` in [0, 1]: the vote
            of each modality that runs, instead of 1.
        training: Whether dropout is active and the scale of depth moves.

    Returns:
        Dict with `logits` `(batch, num_classes)`, log-probabilities up to a
        constant; `modality_logits` `(batch, modalities, num_classes)`,
        log-probabilities at each modality's depth; `exit_logits`
        `(batch, modalities, max_depth, num_classes)` of the classifier
        alone after every block, where at inference a block beyond the depth
        adds nothing; `depth` `(batch, modalities)`, whole numbers; and
        `weights` `(batch, modalities)`, equal over the modalities that run
        but for their `quality`, with a sum of 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> layer = keras_mmrel.layers.DynamicDepthFusion(num_classes=4)
    >>> out = layer(np.zeros((5, 3, 10)), confidence=np.ones((5, 3)))
    >>> out["depth"].shape
    (5, 3)

    References:
        - [QADM-Net](https://arxiv.org/abs/2412.14489): confidence-guided,
          globally normalised depth and layer-wise parameters per sample. All
          formulas are this library's own; in particular blocks that add up
          their evidence, depth 0 as "not run", the product of experts and
          its sharpness.
    """

    def __init__(
        self,
        num_classes: int,
        max_depth: int = 4,
        hidden_dim: int = 64,
        dropout: float = 0.5,
        sharpness: float = 0.25,
        prototype_fraction: float = 0.3,
        predicted_parameters: bool = False,
        quantiles: tuple[float, float] = (0.01, 0.05),
        inference: str = "masked",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if hidden_dim % max_depth:
            raise ValueError(
                "`hidden_dim` must be a multiple of `max_depth`. Received: "
                f"hidden_dim={hidden_dim}, max_depth={max_depth}"
            )
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.max_depth = max_depth
        self.hidden_dim = hidden_dim
        self.dropout = dropout
        self.sharpness = sharpness
        self.prototype_fraction = prototype_fraction
        self.predicted_parameters = predicted_parameters
        self.quantiles = tuple(quantiles)
        self.inference = inference
        self.seed = known_seed(seed)
        self.allocator = DepthAllocator(max_depth, quantiles, name="allocator")
        self.drop = keras.layers.Dropout(
            dropout, seed=self.seed, dtype=self.dtype_policy
        )

    def build(self, input_shape: tuple) -> None:
        check_stacked(input_shape)
        _, modalities, features = input_shape
        width, classes = self.hidden_dim, self.num_classes

        def kernel(name: str, rows: int, columns: int, gain: float) -> Tensor:
            # A stack of matrices, one a modality.
            deviation = gain * (2.0 / (rows + columns)) ** 0.5
            return self.add_weight(
                shape=(modalities, rows, columns),
                initializer=keras.initializers.RandomNormal(stddev=deviation),
                name=name,
            )

        def bias(name: str, columns: int) -> Tensor:
            return self.add_weight(
                shape=(modalities, columns), initializer="zeros", name=name
            )

        # The blocks of a modality lie side by side in one matrix.
        self.kernel = kernel("kernel", features, width, 1.0)
        self.bias = bias("bias", width)
        self.head = kernel("head_kernel", width, classes, 1.0)
        self.head_bias = bias("head_bias", classes)
        if self.predicted_parameters:
            # Small: at the start every factor is close to 1.
            self.predictor = kernel("predictor", classes, width, 0.05)
        if not self.allocator.built:
            self.allocator.build((None, modalities))

    def call(
        self,
        inputs: Tensor,
        confidence: Tensor,
        prototype_probabilities: Tensor | None = None,
        modality_mask: Tensor | None = None,
        depth: Tensor | None = None,
        quality: Tensor | None = None,
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        modalities, features = self.kernel.shape[:2]
        check_shape("inputs", inputs, "batch", modalities, features)
        check_shape("confidence", confidence, "batch", modalities)
        for name, value in (("depth", depth), ("quality", quality)):
            if value is not None:
                check_shape(name, value, "batch", modalities)
        mask = presence(modality_mask, inputs)
        confidence = ops.stop_gradient(ops.cast(confidence, "float32"))
        if depth is None:
            depth = self.allocator(confidence, modality_mask, training=training)
        depth = ops.stop_gradient(ops.cast(depth, "float32"))
        inputs = without_missing(inputs, mask)
        confidence = ops.where(mask > 0, confidence, 0.0)
        runs = ops.cast(depth > 0, "float32")
        votes = runs
        if quality is not None:
            votes = runs * ops.stop_gradient(ops.cast(quality, "float32"))
        if self.inference == "skip" and not training:
            evidence = self._run_skipping(inputs, depth, confidence)
        else:
            evidence = self._run_masked(inputs, depth, confidence, training)
        evidence = ops.cast(evidence, "float32")
        bias = ops.cast(self.head_bias, "float32")
        levels = ops.arange(self.max_depth, dtype="float32")
        gate = ops.cast(depth[:, :, None] > levels, "float32")
        gated = evidence * gate[:, :, :, None]
        modality_logits = self._mix_prototypes(
            ops.log_softmax(ops.sum(gated, axis=2) + bias, axis=-1),
            prototype_probabilities,
        )
        # In training all exits learn, also those beyond the depth.
        exits = ops.cumsum(evidence if training else gated, axis=2)

        number = ops.sum(votes, axis=1, keepdims=True)
        weights = votes / ops.where(number > 0, number, 1.0)
        logits = ops.einsum("bm,bmk->bk", weights, modality_logits)
        return {
            "logits": logits * ops.power(number, self.sharpness),
            "modality_logits": modality_logits,
            "exit_logits": exits + bias[:, None, :],
            "depth": depth,
            "weights": weights,
        }

    def _mix_prototypes(
        self, log_probabilities: Tensor, prototype: Tensor
    ) -> Tensor:
        """Log of the mixture with the prototypes' probabilities."""
        if prototype is None or self.prototype_fraction == 0:
            return log_probabilities
        fraction = self.prototype_fraction
        shape = ("batch", *log_probabilities.shape[1:])
        check_shape("prototype_probabilities", prototype, *shape)
        prototype = ops.stop_gradient(ops.cast(prototype, "float32"))
        mixture = (1.0 - fraction) * ops.exp(log_probabilities)
        return ops.log(mixture + fraction * prototype + 1e-6)

    # -- Blocks --------------------------------------------------------------

    def _run_masked(
        self,
        x: Tensor,
        depth: Tensor,
        confidence: Tensor,
        training: bool | None,
    ) -> Tensor:
        """Evidence of every block, `(batch, modalities, max_depth, classes)`.

        Every block runs on every row; the caller keeps what depth allows.
        """
        hidden = ops.einsum("bmd,mdh->bmh", x, self.kernel) + self.bias
        hidden = self.drop(ops.relu(hidden), training=training)
        blocks = (
            hidden.shape[1],
            self.max_depth,
            self.hidden_dim // self.max_depth,
        )
        hidden = ops.reshape(hidden, (-1, *blocks))
        head = ops.reshape(self.head, (*blocks, self.num_classes))
        if self.predicted_parameters:
            first = ops.einsum("bmg,mgk->bmk", hidden[:, :, 0], head[:, 0])
            factors = self._predict(first, depth, confidence)
            hidden = hidden * ops.reshape(factors, (-1, *blocks))
        return ops.einsum("bmlg,mlgk->bmlk", hidden, head)

    def _predict(
        self, first: Tensor, depth: Tensor, confidence: Tensor
    ) -> Tensor:
        """Factors `(batch, modalities, hidden_dim)` of the hidden units.

        Args:
            first: Evidence of the first blocks, `(batch, modalities, classes)`.
            depth: `(batch, modalities)`.
            confidence: `(batch, modalities)`.
        """
        runs = ops.cast(depth > 0, "float32")
        best = ops.one_hot(
            ops.argmax(confidence * runs + runs, axis=1),
            confidence.shape[1],
            dtype="float32",
        )
        logits = ops.cast(first, "float32") + ops.cast(
            self.head_bias, "float32"
        )
        opinion = ops.softmax(logits, axis=-1) - 1.0 / self.num_classes
        opinion = ops.stop_gradient(ops.einsum("bm,bmk->bk", best, opinion))
        predictor = ops.cast(self.predictor, "float32")
        factors = 1.0 + ops.tanh(ops.einsum("bk,mkh->bmh", opinion, predictor))
        # The first block has spoken already.
        later = np.arange(self.hidden_dim) >= self.hidden_dim // self.max_depth
        later = ops.convert_to_tensor(later.astype("float32"))
        return ops.cast(factors * later + (1.0 - later), first.dtype)

    def _run_skipping(
        self, x: Tensor, depth: Tensor, confidence: Tensor
    ) -> Tensor:
        """The same, computed as deep as groups of similar rows need."""
        factors = None
        if self.predicted_parameters:
            first = ops.stack(
                [
                    self._evidence(m, 1, x[:, m])[:, 0]
                    for m in range(depth.shape[1])
                ],
                axis=1,
            )
            factors = self._predict(first, depth, confidence)
        return ops.stack(
            [
                run_by_depth(
                    functools.partial(self._evidence, m),
                    [x[:, m]] + ([] if factors is None else [factors[:, m]]),
                    depth[:, m],
                    (self.max_depth, self.num_classes),
                )
                for m in range(depth.shape[1])
            ],
            axis=1,
        )

    def _evidence(
        self,
        modality: int,
        blocks: int,
        x: Tensor,
        factors: Tensor | None = None,
    ) -> Tensor:
        """Evidence `(rows, blocks, classes)` of one modality's first blocks."""
        size = self.hidden_dim // self.max_depth
        part = slice(blocks * size)
        hidden = ops.matmul(x, self.kernel[modality, :, part])
        hidden = ops.relu(hidden + self.bias[modality, part])
        if factors is not None:
            hidden = hidden * factors[:, part]
        head = ops.reshape(
            self.head[modality, part], (blocks, size, self.num_classes)
        )
        hidden = ops.reshape(hidden, (-1, blocks, size))
        return ops.einsum("nlg,lgk->nlk", hidden, head)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "max_depth": self.max_depth,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
            "sharpness": self.sharpness,
            "prototype_fraction": self.prototype_fraction,
            "predicted_parameters": self.predicted_parameters,
            "quantiles": list(self.quantiles),
            "inference": self.inference,
            "seed": self.seed,
        }
