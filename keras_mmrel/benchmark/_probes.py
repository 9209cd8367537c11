"""What a table says about the inside of a model: named functions."""

import types
import warnings
from collections.abc import Mapping

import numpy as np

from keras_mmrel._encoder_features import encoder_features
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Array
from keras_mmrel.contract import Model
from keras_mmrel.contract import modality_arrays
from keras_mmrel.optional import require

BATCH = 1024


def modality_accuracy(
    model: Model, x: Mapping[str, Array], y: Array
) -> dict[str, float]:
    """Test accuracy of each modality's own logits."""
    logits = model.predict(x, batch_size=BATCH, verbose=0)[MODALITY_LOGITS]
    return {
        name: float((logits[:, index].argmax(axis=1) == y).mean())
        for index, name in enumerate(model.modality_names)
    }


def linear_probe(
    model: Model,
    x: Mapping[str, Array],
    y: Array,
    training: tuple[Mapping[str, Array], Array],
) -> dict[str, float]:
    """Test accuracy of a logistic regression on each encoder's features.

    Only for models whose encoders return one vector.
    """
    linear = require("sklearn.linear_model", "linear_probe")
    x_train, y_train = training
    found = {}
    for index, name in enumerate(model.modality_names):
        features = [
            encoder_features(model, index, part[name], BATCH)
            for part in (x_train, x)
        ]
        features = [f.reshape(len(f), -1) for f in features]
        mean, deviation = features[0].mean(axis=0), features[0].std(axis=0)
        features = [(f - mean) / (deviation + 1e-6) for f in features]
        classifier = linear.LogisticRegression(C=0.1, max_iter=60)
        with warnings.catch_warnings():
            # 60 iterations are the protocol, not convergence.
            warnings.simplefilter("ignore")
            classifier.fit(features[0], y_train)
        found[name] = float(classifier.score(features[1], y))
    return found


def learning_curves(
    model: Model, x: Mapping[str, Array], y: Array
) -> dict[str, float]:
    """Mean over the epochs of each modality's numbers in the history."""
    history = model.history.history
    names = list(modality_arrays(x))
    return {
        key: float(np.mean(values))
        for key, values in history.items()
        if any(key.startswith(f"{name}_") for name in names)
    }


# Names that `Evaluation` takes.
PROBES = types.MappingProxyType(
    {
        probe.__name__: probe
        for probe in (modality_accuracy, linear_probe, learning_curves)
    }
)
