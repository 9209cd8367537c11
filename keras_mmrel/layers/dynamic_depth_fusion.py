import functools
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import DEPTH
from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._checks import presence
from keras_mmrel.layers._glorot import glorot
from keras_mmrel.layers._row_skipping import run_by_depth
from keras_mmrel.layers._stack_features import check_stacked
from keras_mmrel.layers._stack_features import without_missing
from keras_mmrel.layers.depth_allocator import DepthAllocator
from keras_mmrel.portable import power
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
    dynamic_depth=Flag(),
    tolerance=Number(0, 1, low_open=True),
    inference=Choice("masked", "skip"),
    seed=SEED,
)
class DynamicDepthFusion(TensorLayer):
    """Run each modality as deep as its quality allows, and fuse by quality.

    Each modality has a classifier of up to `max_depth` blocks, one on the
    other. The first embeds the modality's features, every later one is
    residual, and the modality's head can answer after each:

        h_1 = relu(x W + b)
        h_l = h_(l-1) + relu(h_(l-1) A_l + a_l) B_l + b_l
        logits_l = h_l H + c

    At the start `B_l` is next to zero: a block changes nothing until it has
    learnt to.

    A modality's *depth* `N` is the number of blocks that run on it for one
    sample; it answers at exit `N`. With depth 0 nothing is run, and it has no
    say. `DepthAllocator` makes depth, and the modality's weight `w`, of its
    quality relative to that of the sample's best modality.

    The fused prediction is a product of experts,

        log p = n^sharpness * sum_m w_m log p_m / n,

    with `n` the sum of the weights: agreeing experts are worth more than one.
    Where `prototype_probabilities` are given, `p_m` is a mixture with them.

    Depth is a mask, so that the layer compiles to one graph. With
    `inference="skip"` rows are sorted by depth at inference and groups of
    rows without work are skipped: the same outputs, less time when many
    depths are small and the layer is large.

    No gradient flows into depth and weights.

    Args:
        num_classes: Integer of at least 2.
        max_depth: Positive integer `L`, the most blocks that run.
        hidden_dim: Positive integer, units of every block.
        dropout: Float in `[0, 1)`, on the first block's units.
        sharpness: Float of at least 0, exponent of the number of modalities
            that count; 0 averages, 1 adds up as if they were independent.
        prototype_fraction: Float in [0, 1], weight of `prototype_probabilities`
            in a modality's prediction.
        dynamic_depth: Whether depth follows the quality. Without it all
            blocks run on every present modality; weights follow it anyway.
        tolerance: Float in (0, 1], see `DepthAllocator`.
        inference: `"masked"` or `"skip"`.
        seed: Integer, or `None` to draw one. Seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor `(batch, modalities, features)`.
        quality: Tensor `(batch, modalities)`, at least 0.
        prototype_probabilities: `None` or a tensor
            `(batch, modalities, num_classes)`, `PrototypeConfidence`'s
            `probabilities`. No gradient flows into them.
        modality_mask: `None` or `(batch, modalities)`, 1 = present.
        training: Whether dropout is active.

    Returns:
        Dict with `logits` `(batch, num_classes)`, log-probabilities up to a
        constant; `modality_logits` `(batch, modalities, num_classes)`,
        log-probabilities at each modality's depth; `exit_logits`
        `(batch, modalities, max_depth, num_classes)` of the exits alone, where
        at inference an exit beyond the depth repeats the last one that ran;
        `depth` `(batch, modalities)`, whole numbers; and `weights` `(batch,
        modalities)`, which sum to 1 where any modality is present.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> layer = keras_mmrel.layers.DynamicDepthFusion(num_classes=4)
    >>> out = layer(np.zeros((5, 3, 10)), quality=np.ones((5, 3)))
    >>> out["depth"].shape
    (5, 3)

    References:
        - [QADM-Net](https://arxiv.org/abs/2412.14489): depth by the quality
          of each modality. All formulas are this library's own; in particular
          the residual blocks with one head, depth 0 as "not run", and the
          product of experts.
    """

    def __init__(
        self,
        num_classes: int,
        max_depth: int = 4,
        hidden_dim: int = 64,
        dropout: float = 0.5,
        sharpness: float = 0.25,
        prototype_fraction: float = 0.3,
        dynamic_depth: bool = True,
        tolerance: float = 0.9,
        inference: str = "masked",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.max_depth = max_depth
        self.hidden_dim = hidden_dim
        self.dropout = dropout
        self.sharpness = sharpness
        self.prototype_fraction = prototype_fraction
        self.dynamic_depth = dynamic_depth
        self.tolerance = tolerance
        self.inference = inference
        self.seed = known_seed(seed)
        self.allocator = DepthAllocator(max_depth, tolerance, name="allocator")
        self.drop = keras.layers.Dropout(
            dropout, seed=self.seed, dtype=self.dtype_policy
        )

    def build(self, input_shape: tuple) -> None:
        check_stacked(input_shape)
        _, modalities, features = input_shape
        width, deep = self.hidden_dim, self.max_depth - 1

        # Stacks of matrices or vectors, one a modality (and block).
        def weight(name: str, *shape: int, start: Any = "zeros") -> Tensor:
            return self.add_weight(shape=shape, initializer=start, name=name)

        normal = keras.initializers.RandomNormal

        def dense(name: str, *shape: int) -> Tensor:
            return weight(name, *shape, start=glorot(*shape[-2:]))

        self.kernel = dense("kernel", modalities, features, width)
        self.bias = weight("bias", modalities, width)
        if deep:
            self.inner = dense("inner", deep, modalities, width, width)
            self.inner_bias = weight("inner_bias", deep, modalities, width)
            # A block changes next to nothing until it has learnt to.
            self.outer = weight(
                "outer",
                deep,
                modalities,
                width,
                width,
                start=normal(stddev=1e-3),
            )
            self.outer_bias = weight("outer_bias", deep, modalities, width)
        self.head = dense("head_kernel", modalities, width, self.num_classes)
        self.head_bias = weight("head_bias", modalities, self.num_classes)

    def call(
        self,
        inputs: Tensor,
        quality: Tensor,
        prototype_probabilities: Tensor | None = None,
        modality_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        modalities, features = self.kernel.shape[:2]
        check_shape("inputs", inputs, "batch", modalities, features)
        check_shape("quality", quality, "batch", modalities)
        mask = presence(modality_mask, inputs)
        inputs = without_missing(inputs, mask)
        allocated = self.allocator(quality, modality_mask)
        depth = allocated["depth"]
        if not self.dynamic_depth:
            depth = self.max_depth * mask
        weight = allocated["weight"] * ops.cast(depth > 0, "float32")
        if self.inference == "skip" and not training:
            exits = self._run_skipping(inputs, depth)
        else:
            exits = self._run(inputs, training=training)
        exits = ops.cast(exits, "float32")
        # Not by an index, which not every export can take.
        levels = ops.arange(0, self.max_depth, dtype="float32")
        last = levels == depth[:, :, None] - 1.0
        answer = ops.sum(
            ops.where(last[:, :, :, None], exits, 0.0), axis=2, keepdims=True
        )
        if not training:
            # In training all exits learn, also those beyond the depth.
            runs = levels < depth[:, :, None]
            exits = ops.where(runs[:, :, :, None], exits, answer)
        modality_logits = self._mix_prototypes(
            ops.log_softmax(answer[:, :, 0], axis=-1), prototype_probabilities
        )
        logits = self._fuse(modality_logits, weight)
        total = ops.sum(weight, axis=1, keepdims=True)
        return {
            "logits": logits,
            "modality_logits": modality_logits,
            "exit_logits": exits,
            "depth": depth,
            "weights": weight / ops.where(total > 0, total, 1.0),
        }

    # -- Fusion --------------------------------------------------------------

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

    def _fuse(self, experts: Tensor, weight: Tensor) -> Tensor:
        """Log-probabilities, up to a constant, of the product of experts."""
        total = ops.sum(weight, axis=1, keepdims=True)
        total = ops.where(total > 0, total, 1.0)
        logits = ops.sum(weight[:, :, None] * experts, axis=1)
        return logits * power(total, self.sharpness - 1.0)

    # -- Blocks --------------------------------------------------------------

    def _run(
        self,
        x: Tensor,
        modalities: slice = slice(None),
        blocks: int | None = None,
        training: bool | None = None,
    ) -> Tensor:
        """Logits `(rows, modalities, blocks, classes)` of the first exits.

        Args:
            x: `(rows, modalities, features)`.
            modalities: Which ones `x` has.
            blocks: How many blocks run; all by default.
            training: Whether dropout is active.
        """

        def linear(x: Tensor, kernels: Tensor) -> Tensor:
            return ops.einsum("bmd,mdh->bmh", x, kernels[modalities])

        hidden = linear(x, self.kernel) + self.bias[modalities]
        hidden = self.drop(ops.relu(hidden), training=training)
        exits = []
        for level in range(blocks or self.max_depth):
            if level:
                step = linear(hidden, self.inner[level - 1])
                step = step + self.inner_bias[level - 1][modalities]
                step = linear(ops.relu(step), self.outer[level - 1])
                hidden = hidden + step + self.outer_bias[level - 1][modalities]
            logits = linear(hidden, self.head) + self.head_bias[modalities]
            exits.append(logits)
        return ops.stack(exits, axis=2)

    def _run_skipping(self, x: Tensor, depth: Tensor) -> Tensor:
        """The same, computed as deep as groups of similar rows need."""

        def run(modality: int, blocks: int, x: Tensor) -> Tensor:
            part = slice(modality, modality + 1)
            return self._run(x[:, None], part, blocks)[:, 0]

        return ops.stack(
            [
                run_by_depth(
                    functools.partial(run, m),
                    [x[:, m]],
                    depth[:, m],
                    (self.max_depth, self.num_classes),
                )
                for m in range(depth.shape[1])
            ],
            axis=1,
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "max_depth": self.max_depth,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
            "sharpness": self.sharpness,
            "prototype_fraction": self.prototype_fraction,
            "dynamic_depth": self.dynamic_depth,
            "tolerance": self.tolerance,
            "inference": self.inference,
            "seed": self.seed,
        }
