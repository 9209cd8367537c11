from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.layers.row_skipping import run_active_rows
from keras_mmrel.layers.row_skipping import sort_by_depth
from keras_mmrel.layers.row_skipping import unsort


@keras.saving.register_keras_serializable(package="keras_mmrel")
class DynamicDepthFusion(keras.layers.Layer):
    """Give every sample its own depth in every modality, and fuse by it.

    A modality's *depth* is the number of blocks that run on it for one
    sample. It grows with the modality's confidence, on a scale between a low
    and a high quantile of the confidence of clean training samples:

    - depth 0: the modality is not run and has no say;
    - depth 1: a dense block and the classifier;
    - depth 2 to `max_depth`: residual blocks in between.

    If no present modality reaches depth 1, all present ones run at depth 1.
    The classifier sees the last block that ran. The fused prediction is a
    product of experts: a mean of the modalities' log-probabilities weighted
    by depth, times the number of modalities that run to the power
    `sharpness`, since agreeing experts are worth more than one.

    Depth is a mask, so that the layer compiles to one graph. With
    `inference="skip"` rows are sorted by depth at inference and groups of
    rows without work are skipped: the same outputs, less time when many
    depths are small and the layer is large.

    No gradient flows into depth or fusion weights.

    Args:
        num_classes: Integer of at least 2.
        max_depth: Positive integer `L`, the most blocks that run.
        hidden_dim: Positive integer, units of every block.
        dropout: Float in `[0, 1)`, on the first block's output and on the
            input of every other block.
        sharpness: Float of at least 0, exponent of the number of modalities
            that run; 0 averages, 1 adds up as if they were independent.
        predicted_parameters: Whether the blocks from depth 2 on are scaled
            by factors predicted for each sample, from its own features and
            those of its most confident modality.
        quantiles: Pair of floats `(low, high)` in [0, 1], the quantiles of
            clean training confidence at which depth is 0 and `max_depth`.
        inference: `"masked"` or `"skip"`.
        seed: Integer or `None`, seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor `(batch, modalities, features)`.
        confidence: Tensor `(batch, modalities)` in [0, 1].
        modality_mask: `None` or `(batch, modalities)`, 1 = present.
        training: Whether dropout is active.

    Returns:
        Dict with `logits` `(batch, num_classes)`, log-probabilities up to a
        constant; `modality_logits` `(batch, modalities, num_classes)`, at
        each modality's depth; `exit_logits`
        `(batch, modalities, max_depth, num_classes)` after every block;
        `depth` `(batch, modalities)`, whole numbers; and `weights`
        `(batch, modalities)`, which sum to 1.

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
          formulas are this library's own; in particular the depth-weighted
          product of experts, the residual blocks on the class path and
          depth 0 as "not run".
    """

    def __init__(
        self,
        num_classes: int,
        max_depth: int = 2,
        hidden_dim: int = 64,
        dropout: float = 0.5,
        sharpness: float = 0.5,
        predicted_parameters: bool = False,
        quantiles: tuple[float, float] = (0.01, 0.05),
        inference: str = "masked",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value, lowest in (
            ("num_classes", num_classes, 2),
            ("max_depth", max_depth, 1),
            ("hidden_dim", hidden_dim, 1),
            ("sharpness", sharpness, 0),
        ):
            if not value >= lowest:
                raise ValueError(
                    f"`{name}` must be at least {lowest}. Received: "
                    f"{name}={value!r}"
                )
        if not 0 <= quantiles[0] < quantiles[1] <= 1:
            raise ValueError(
                "`quantiles` must be an increasing pair in [0, 1]. Received: "
                f"quantiles={quantiles!r}"
            )
        if inference not in ("masked", "skip"):
            raise ValueError(
                "`inference` must be 'masked' or 'skip'. Received: "
                f"inference={inference!r}"
            )
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.max_depth = max_depth
        self.hidden_dim = hidden_dim
        self.dropout = dropout
        self.sharpness = sharpness
        self.predicted_parameters = predicted_parameters
        self.quantiles = tuple(quantiles)
        self.inference = inference
        self.seed = seed
        self.drop = keras.layers.Dropout(
            dropout, seed=seed, dtype=self.dtype_policy
        )

    def build(self, input_shape: tuple) -> None:
        if len(input_shape) != 3:
            raise ValueError(
                "`inputs` must have the shape (batch, modalities, features). "
                f"Received: shape={tuple(input_shape)}"
            )
        _, modalities, features = input_shape
        width, rank = self.hidden_dim, 8

        def kernel(name: str, rows: int, columns: int, gain: float) -> Any:
            # A stack of matrices, one a modality.
            deviation = gain * (2.0 / (rows + columns)) ** 0.5
            return self.add_weight(
                shape=(modalities, rows, columns),
                initializer=keras.initializers.RandomNormal(stddev=deviation),
                name=name,
            )

        def bias(name: str, columns: int) -> Any:
            return self.add_weight(
                shape=(modalities, columns), initializer="zeros", name=name
            )

        self.kernels = [kernel("kernel_1", features, width, 1.0)]
        self.biases = [bias("bias_1", width)]
        for level in range(2, self.max_depth + 1):
            self.kernels.append(kernel(f"kernel_{level}", width, width, 0.7))
            self.biases.append(bias(f"bias_{level}", width))
        self.head = kernel("head_kernel", width, self.num_classes, 1.0)
        self.head_bias = bias("head_bias", self.num_classes)
        if self.predicted_parameters:
            # Small: at the start every factor is close to 1.
            self.predictors = [
                (
                    kernel(f"guide_{level}", 2 * width, rank, 1.0),
                    kernel(f"input_scale_{level}", rank, width, 0.05),
                    kernel(f"output_scale_{level}", rank, width, 0.05),
                )
                for level in range(2, self.max_depth + 1)
            ]

        def statistic(name: str) -> Any:
            return self.add_weight(
                shape=(),
                initializer="zeros",
                trainable=False,
                dtype="float32",
                aggregation="only_first_replica",
                name=name,
            )

        self.low = statistic("low")
        self.high = statistic("high")
        self.ready = statistic("ready")

    def call(
        self,
        inputs: Any,
        confidence: Any,
        modality_mask: Any = None,
        training: bool | None = None,
    ) -> dict[str, Any]:
        confidence = ops.stop_gradient(ops.cast(confidence, "float32"))
        if modality_mask is None:
            modality_mask = ops.ones_like(confidence)
        modality_mask = ops.cast(modality_mask, "float32")
        depth = self.compute_depth(confidence, modality_mask)
        if self.inference == "skip" and not training:
            hidden = self._run_skipping(inputs, depth, confidence)
        else:
            hidden = self._run_masked(inputs, depth, confidence, training)
        exit_logits = ops.stack(
            [ops.cast(self._classify(h), "float32") for h in hidden], axis=2
        )
        # A block that did not run repeats the exit before it, so the last
        # exit is that at the modality's own depth.
        modality_logits = exit_logits[:, :, -1]
        weights = depth / ops.maximum(
            ops.sum(depth, axis=1, keepdims=True), 1.0
        )
        log_probabilities = ops.log_softmax(modality_logits, axis=-1)
        running = ops.sum(ops.cast(depth > 0, "float32"), axis=1)
        logits = ops.einsum("bm,bmk->bk", weights, log_probabilities)
        logits = logits * ops.power(running, self.sharpness)[:, None]
        return {
            "logits": logits,
            "modality_logits": modality_logits,
            "exit_logits": exit_logits,
            "depth": depth,
            "weights": weights,
        }

    def compute_depth(self, confidence: Any, mask: Any) -> Any:
        """Depth of every modality, `(batch, modalities)` whole numbers.

        Before the quantiles are known every present modality has full depth.
        """
        low = ops.cast(self.low, "float32")
        scale = ops.cast(self.high, "float32") - low + 1e-6
        share = ops.clip((confidence - low) / scale, 0.0, 1.0)
        depth = ops.round(self.max_depth * share)
        depth = ops.where(self.ready > 0, depth, float(self.max_depth))
        depth = ops.cast(depth, "float32") * mask
        none = ops.max(depth, axis=1, keepdims=True) == 0
        return ops.stop_gradient(ops.where(none, mask, depth))

    # -- Blocks --------------------------------------------------------------

    def _first(self, x: Any, part: slice) -> Any:
        hidden = ops.einsum("bmd,mdh->bmh", x, self.kernels[0][part])
        return ops.relu(hidden + self.biases[0][part])

    def _block(self, level: int, x: Any, guide: Any, part: slice) -> Any:
        """Output of residual block `level` (2, 3, ...) to be added to `x`."""
        kernel, bias = self.kernels[level - 1], self.biases[level - 1]
        if not self.predicted_parameters:
            update = ops.einsum("bmh,mhg->bmg", x, kernel[part])
            return ops.relu(update + bias[part])
        reader, scale_in, scale_out = self.predictors[level - 2]
        code = ops.einsum(
            "bmh,mhr->bmr",
            ops.concatenate([x, guide], axis=-1),
            reader[part],
        )
        code = ops.relu(code)
        factor = 1.0 + ops.tanh(
            ops.einsum("bmr,mrh->bmh", code, scale_in[part])
        )
        update = ops.einsum("bmh,mhg->bmg", factor * x, kernel[part])
        factor = 1.0 + ops.tanh(
            ops.einsum("bmr,mrh->bmh", code, scale_out[part])
        )
        return ops.relu(factor * update + bias[part])

    def _classify(self, x: Any) -> Any:
        return ops.einsum("bmh,mhk->bmk", x, self.head) + self.head_bias

    def _guide(self, x: Any, confidence: Any, active: Any) -> Any:
        """Features of the most confident modality that runs, for each one."""
        if not self.predicted_parameters:
            return x
        best = ops.one_hot(
            ops.argmax(confidence * active, axis=1),
            confidence.shape[1],
            dtype=x.dtype,
        ) * ops.cast(active, x.dtype)
        guide = ops.einsum("bm,bmh->bh", best, x)[:, None, :]
        return ops.broadcast_to(guide, ops.shape(x))

    def _run_masked(
        self, x: Any, depth: Any, confidence: Any, training: bool | None
    ) -> list[Any]:
        """Run every block on every row and keep what depth allows."""
        every = slice(None)
        hidden = self.drop(self._first(x, every), training=training)
        if not training:
            # In training a modality at depth 0 learns on.
            hidden = hidden * ops.cast(depth > 0, hidden.dtype)[:, :, None]
        outputs = [hidden]
        for level in range(2, self.max_depth + 1):
            active = ops.cast(depth >= level, "float32")
            guide = self._guide(hidden, confidence, active)
            dropped = self.drop(hidden, training=training)
            update = self._block(level, dropped, guide, every)
            hidden = hidden + update * ops.cast(active, x.dtype)[:, :, None]
            outputs.append(hidden)
        return outputs

    def _run_skipping(self, x: Any, depth: Any, confidence: Any) -> list[Any]:
        """Run each block on the groups of rows that need it."""
        orders = sort_by_depth(depth)

        def run(level: int, function: Any, *rows: Any) -> Any:
            return unsort(
                [
                    run_active_rows(
                        lambda *r, part=slice(m, m + 1): function(part, *r),
                        [ops.take(t[:, m : m + 1], order, 0) for t in rows],
                        ops.take(depth[:, m], order, 0) >= level,
                        self.hidden_dim,
                    )
                    for m, order in enumerate(orders)
                ],
                orders,
            )

        hidden = run(1, lambda part, r: self._first(r, part), x)
        outputs = [hidden]
        for level in range(2, self.max_depth + 1):
            active = ops.cast(depth >= level, "float32")
            guide = self._guide(hidden, confidence, active)
            hidden = hidden + run(
                level,
                lambda part, r, g, level=level: self._block(level, r, g, part),
                hidden,
                guide,
            )
            outputs.append(hidden)
        return outputs

    # -- Statistics ----------------------------------------------------------

    def update_statistics(
        self, confidence: Any, mask: Any, use: Any = 1.0, momentum: float = 0.95
    ) -> None:
        """Follow the quantiles of the confidence of clean samples.

        Args:
            confidence: `(batch, modalities)`, computed without dropout.
            mask: `(batch, modalities)`, 1 = present.
            use: 0 or 1, or a tensor of it: whether the batch counts.
            momentum: Share of the old quantiles that stays, after the first
                batch.
        """
        present = ops.reshape(ops.cast(mask, "float32"), (-1,))
        values = ops.reshape(ops.cast(confidence, "float32"), (-1,))
        # Missing modalities are sorted behind all others.
        ordered = ops.sort(ops.where(present > 0, values, 2.0))
        count = ops.sum(present)
        replicas = backend.all_reduce_sum(ops.ones(()))
        first = self.ready <= 0
        keep = ops.where(first, 0.0, momentum)
        use = ops.logical_and(count > 0, use > 0)
        for weight, share in zip(
            (self.low, self.high), self.quantiles, strict=True
        ):
            index = ops.maximum(ops.floor(share * count) - 1.0, 0.0)
            value = ops.take(ordered, ops.cast(index, "int32"))
            value = backend.all_reduce_sum(value) / replicas
            old = ops.convert_to_tensor(weight)
            weight.assign(
                ops.where(use, keep * old + (1.0 - keep) * value, old)
            )
        ready = ops.convert_to_tensor(self.ready)
        self.ready.assign(ops.where(use, 1.0, ready))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "max_depth": self.max_depth,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
            "sharpness": self.sharpness,
            "predicted_parameters": self.predicted_parameters,
            "quantiles": list(self.quantiles),
            "inference": self.inference,
            "seed": self.seed,
        }
