from typing import Any

import keras
import numpy as np

from keras_mmrel._encoder_features import encoder_features
from keras_mmrel.callbacks._given_data import kind_of
from keras_mmrel.callbacks._given_data import modalities_of
from keras_mmrel.callbacks._given_data import read_data
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import check_labels
from keras_mmrel.optional import require
from keras_mmrel.shapley import shapley_weights


@constrained(
    accuracy=Choice("head", "probe"),
    contributions=Flag(),
    every=Integer(1),
    batch_size=Integer(1),
)
class ModalityMonitor(keras.callbacks.Callback):
    """Watch what each modality has learnt while a model trains.

    After every epoch, on held-out data:

    - `val_<modality>_accuracy`: of the modality by itself, by its own head
      (`modality_logits`) or by a linear probe on its encoder's features,
      fitted on the training data given here;
    - `val_<modality>_contribution`: Shapley value of the model's accuracy over
      all coalitions of modalities, the others being announced as missing;
      chance is 0, and the values add up to the accuracy above chance;
    - `val_modality_imbalance`: the largest accuracy of a modality over the
      smallest.

    All are added to the logs, so that callbacks that come later, `History`
    and `TensorBoard` have them. Contributions take one prediction a coalition,
    7 for three modalities; beyond 6 modalities coalitions are sampled.

    The attribute `history` holds the same, a list a quantity, and `epochs`
    the epochs. An accuracy that stays flat while the fused one rises is the
    sign of an under-trained modality; see
    `keras_mmrel.modulations`, `keras_mmrel.AIM` and `keras_mmrel.CAL`.

    Args:
        x: Dict of held-out arrays, as for `predict`, without a
            `"modality_mask"`.
        y: Integer labels `(n,)`, or one-hot.
        accuracy: `"head"`, or `"probe"` for a logistic regression, which
            needs scikit-learn and `training_data`.
        training_data: `(x, y)` for the probes, or `None`.
        contributions: Whether to estimate contributions.
        every: Positive integer: look every that many epochs, and at the last
            one that `fit` was asked for.
        batch_size: Positive integer.

    Raises:
        ValueError: If `accuracy` is unknown, a probe has no training data, or
            `x` has a mask, data are no dict of arrays and labels of as many
            samples, or, in `fit`, the model is none of this library or has
            other modalities.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> model.compile()
    >>> x = {"a": np.ones((6, 8)), "b": np.ones((6, 4))}
    >>> y = np.array([0, 1, 2, 0, 1, 2])
    >>> monitor = keras_mmrel.callbacks.ModalityMonitor(x, y)
    >>> history = model.fit(x, y, verbose=0, callbacks=[monitor])
    >>> sorted(monitor.history)[:3]
    ['val_a_accuracy', 'val_a_contribution', 'val_b_accuracy']
    """

    def __init__(
        self,
        x: Modalities,
        y: Labels,
        accuracy: str = "head",
        training_data: tuple | None = None,
        contributions: bool = True,
        every: int = 1,
        batch_size: int = 256,
    ) -> None:
        super().__init__()
        if accuracy == "probe" and training_data is None:
            raise ValueError(
                "`training_data` must be (x, y) to fit the probes. Received: "
                "training_data=None"
            )
        if training_data is not None:
            if not isinstance(training_data, tuple) or len(training_data) != 2:
                raise ValueError(
                    "`training_data` must be a tuple (x, y) of a dict of "
                    f"arrays and labels. Received: {kind_of(training_data)}"
                )
            training_data = read_data("training_data", *training_data)
        self.x, self.y = read_data("x", x, y)
        self.accuracy = accuracy
        self.training_data = training_data
        self.contributions = contributions
        self.every = every
        self.batch_size = batch_size
        self.epochs: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.epochs, self.history = [], {}
        data = {"x": self.x}
        if self.accuracy == "probe" and self.training_data is not None:
            data["training_data"] = self.training_data[0]
        modalities_of("ModalityMonitor", self.model, data)
        self._numbers(self.y)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        last = epoch + 1 == self.params.get("epochs")
        if (epoch + 1) % self.every and not last:
            return
        quantities = self.look()
        self.epochs.append(epoch)
        for key, value in quantities.items():
            self.history.setdefault(key, []).append(value)
        if logs is not None:
            logs.update(quantities)

    # -- One look ------------------------------------------------------------

    def _numbers(self, y: Array) -> Array:
        """Class numbers of the model, of labels of both forms."""
        return check_labels(y, self.model.num_classes, soft=True)

    def look(self) -> dict[str, float]:
        """Return all quantities for the model as it is."""
        y = self._numbers(self.y)
        names = self.model.modality_names
        outputs = self._predict(np.ones((len(self.y), len(names))))
        if self.accuracy == "head":
            right = [
                float((logits.argmax(axis=-1) == y).mean())
                for logits in np.moveaxis(outputs[MODALITY_LOGITS], 1, 0)
            ]
        else:
            right = [self._probe(index) for index in range(len(names))]
        quantities = {
            f"val_{name}_accuracy": value
            for name, value in zip(names, right, strict=True)
        }
        if self.contributions:
            values = self._shapley_values()
            for name, value in zip(names, values, strict=True):
                quantities[f"val_{name}_contribution"] = float(value)
        imbalance = max(right) / max(min(right), 1e-12)
        return {**quantities, "val_modality_imbalance": imbalance}

    def _predict(self, mask: Array) -> dict[str, Array]:
        inputs = {**self.x, MASK: mask.astype("float32")}
        return self.model.predict(inputs, batch_size=self.batch_size, verbose=0)

    def _shapley_values(self) -> Array:
        members, weights = shapley_weights(len(self.model.modality_names))
        y = self._numbers(self.y)
        chance = 1.0 / self.model.num_classes
        values = []
        for coalition in members:
            logits = self._predict(np.tile(coalition, (len(self.y), 1)))[LOGITS]
            right = (logits.argmax(axis=-1) == y).mean()
            values.append((right - chance) / (1.0 - chance))
        return weights @ np.array(values)

    def _probe(self, index: int) -> float:
        user = "ModalityMonitor"
        linear = require("sklearn.linear_model", user)
        pipeline = require("sklearn.pipeline", user)
        preprocessing = require("sklearn.preprocessing", user)
        x, y = self.training_data or (self.x, self.y)
        name = self.model.modality_names[index]
        classifier = pipeline.make_pipeline(
            preprocessing.StandardScaler(),
            linear.LogisticRegression(C=0.1, max_iter=200),
        )
        classifier.fit(self._features(index, x[name]), self._numbers(y))
        return float(
            classifier.score(
                self._features(index, self.x[name]), self._numbers(self.y)
            )
        )

    def _features(self, index: int, values: ArrayLike) -> Array:
        return encoder_features(self.model, index, values, self.batch_size)

    # -- Picture -------------------------------------------------------------

    def plot(self, path: Any = None) -> Any:
        """Draw accuracies, contributions and imbalance against the epoch.

        Args:
            path: File for the picture, or `None`.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ValueError: If no epoch has been looked at yet.
            ImportError: If matplotlib is not installed.
        """
        if not self.epochs:
            raise ValueError(
                "`plot` must come after `fit` with this callback. Received: "
                "no epoch"
            )
        plots = require("matplotlib.figure", "ModalityMonitor.plot")
        panels = [
            ("accuracy", "Accuracy of each modality alone"),
            ("contribution", "Contribution to the accuracy"),
            ("imbalance", "Largest over smallest accuracy"),
        ]
        panels = [
            panel
            for panel in panels
            if any(key.endswith(f"_{panel[0]}") for key in self.history)
        ]
        figure = plots.Figure(
            figsize=(4 * len(panels), 3), layout="constrained"
        )
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        epochs = [epoch + 1 for epoch in self.epochs]
        for axis, (kind, title) in zip(axes, panels, strict=True):
            for key, values in self.history.items():
                if key.endswith(f"_{kind}"):
                    label = key.removeprefix("val_").removesuffix(f"_{kind}")
                    axis.plot(epochs, values, marker=".", label=label)
            axis.set_title(title, fontsize=10)
            axis.set_xlabel("epoch")
            axis.spines[["top", "right"]].set_visible(False)
            if kind == "imbalance":
                axis.set_ylim(bottom=1.0)
            else:
                axis.set_ylim(min(0.0, axis.get_ylim()[0]), 1.0)
                axis.legend(frameon=False)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure
