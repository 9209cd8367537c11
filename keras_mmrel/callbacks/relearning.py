from typing import Any

import keras
import numpy as np

from keras_mmrel._encoder_features import encoder_features
from keras_mmrel.callbacks._given_data import kind_of
from keras_mmrel.callbacks._given_data import modalities_of
from keras_mmrel.callbacks._given_data import read_data
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import to_numpy
from keras_mmrel.optional import require


@constrained(
    strength=Number(0),
    every=Integer(1),
    times=Integer(1),
    batch_size=Integer(1),
    seed=SEED,
)
class Relearning(keras.callbacks.Callback):
    """Diagnose what encoders have learnt by heart, and let them learn anew.

    Every so many epochs the features of each encoder are clustered by
    k-means, in as many clusters as there are classes, on training data and on
    held-out data. The purity of a clustering is the fraction of samples that
    are of the commonest class of their cluster. How much the purities differ,
    `g`, is how far the encoder has fitted what does not generalise, and its
    weights go back towards where they were when the training began:

        w = (1 - a) w + a w_initial,  a = tanh(strength * g)

    A modality that leads, and one that has little to learn, are reset the
    more; one that still learns goes on. The fusion and the state of the
    optimizer stay. After the last epoch nothing is reset.

    Logged in the epochs with a diagnosis are `<modality>_purity_gap` and
    `<modality>_reset`, which is `a`; `history` holds both, a list each. With
    `TrainingState` the initial weights survive a kill.

    This follows the released code (commit 025085e): its purities and weights
    are those of this class to 1e-7 for the same features and clusters. There
    the diagnosis is made after epochs 21, 41 and 61.

    Args:
        training_data: `(x, y)`, a dict of arrays and labels.
        validation_data: The same, of samples that are not trained on. Not the
            test data: what they decide about is no test any more.
        strength: Non-negative float.
        every: Positive integer, epochs between two diagnoses.
        times: Positive integer, the most diagnoses.
        batch_size: Positive integer.
        seed: Integer of k-means.

    Raises:
        ValueError: If an argument is outside its range, data are no tuple of
            a dict of arrays and labels, or, in `fit`, the model is none of
            this library or has other modalities.
        ImportError: If scikit-learn is not installed.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> model.compile()
    >>> x = {"a": np.random.rand(30, 8), "b": np.random.rand(30, 4)}
    >>> y = np.arange(30) % 3
    >>> data = (x, y)
    >>> relearning = keras_mmrel.callbacks.Relearning(data, data, every=1)
    >>> history = model.fit(
    ...     x, y, epochs=3, verbose=0, callbacks=[relearning]
    ... )
    >>> relearning.history["a_purity_gap"]
    [0.0, 0.0]

    References:
        - [Wei et al., 2024, Diagnosing and Re-learning for Balanced
          Multimodal Learning](https://arxiv.org/abs/2407.09705)
    """

    def __init__(
        self,
        training_data: tuple,
        validation_data: tuple,
        strength: float = 3.0,
        every: int = 20,
        times: int = 3,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.data = {}
        for name, data in (
            ("training_data", training_data),
            ("validation_data", validation_data),
        ):
            if not isinstance(data, tuple) or len(data) != 2:
                raise ValueError(
                    f"`{name}` must be a tuple (x, y) of a dict of arrays and "
                    f"labels. Received: {kind_of(data)}"
                )
            self.data[name] = read_data(name, *data)
        self.strength = strength
        self.every = every
        self.times = times
        self.batch_size = batch_size
        self.seed = seed
        self.initial: list[list[Array]] = []
        self.diagnoses = 0
        self.history: dict[str, list[float]] = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        require("sklearn.cluster", "Relearning")
        given = {name: x for name, (x, _) in self.data.items()}
        names = modalities_of("Relearning", self.model, given)
        self.diagnoses, self.history, self.initial = 0, {}, []
        for _, y in self.data.values():
            self._numbers(y)
        for index, name in enumerate(names):
            # An encoder of unknown shape is built by a sample.
            one = keras.tree.map_structure(
                lambda v: v[:1], given["training_data"][name]
            )
            encoder_features(self.model, index, one, 1)
            self.initial.append([to_numpy(w) for w in self._weights(index)])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        last = epoch + 1 == self.params.get("epochs")
        if (epoch + 1) % self.every or last or self.diagnoses == self.times:
            return
        self.diagnoses += 1
        found = {}
        for index, name in enumerate(self.model.modality_names):
            gap = self.purity_gap(index)
            found[f"{name}_purity_gap"] = gap
            found[f"{name}_reset"] = float(np.tanh(self.strength * gap))
            self._reset(index, found[f"{name}_reset"])
        for key, value in found.items():
            self.history.setdefault(key, []).append(value)
        if logs is not None:
            logs.update(found)

    def purity_gap(self, index: int) -> float:
        """Return how far the purities of a modality's features differ."""
        name = self.model.modality_names[index]
        purities = []
        for x, y in self.data.values():
            features = encoder_features(
                self.model, index, x[name], self.batch_size
            )
            features = features.reshape(len(features), -1)
            purities.append(self._purity(features, self._numbers(y)))
        return abs(purities[0] - purities[1])

    def _purity(self, features: Array, y: Array) -> float:
        cluster = require("sklearn.cluster", "Relearning")
        preprocessing = require("sklearn.preprocessing", "Relearning")
        scaled = preprocessing.MinMaxScaler((-1, 1)).fit_transform(features)
        count = min(self.model.num_classes, len(scaled))
        clusters = cluster.KMeans(count, random_state=self.seed)
        found = clusters.fit_predict(scaled)
        right = [np.bincount(y[found == c]).max() for c in np.unique(found)]
        return float(sum(right) / len(y))

    def _reset(self, index: int, fraction: float) -> None:
        weights = zip(self._weights(index), self.initial[index], strict=True)
        for weight, initial in weights:
            current = to_numpy(weight)
            weight.assign((1.0 - fraction) * current + fraction * initial)

    def _weights(self, index: int) -> list[Any]:
        return self.model.encoders[index].trainable_weights

    def _numbers(self, y: Array) -> Array:
        return check_labels(y, self.model.num_classes, soft=True)

    # -- For `TrainingState` -------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {
            "initial": self.initial,
            "diagnoses": self.diagnoses,
            "history": self.history,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` returned."""
        self.initial = state["initial"]
        self.diagnoses = state["diagnoses"]
        self.history = state["history"]
