"""One training of one method, the same regime for all of them."""

import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_mmrel import models
from keras_mmrel.benchmark._around import Around
from keras_mmrel.benchmark._samples import Part
from keras_mmrel.benchmark._samples import stratified
from keras_mmrel.benchmark.method import Method
from keras_mmrel.benchmark.regime import Regime
from keras_mmrel.benchmark.training import Training
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import PROBABILITIES
from keras_mmrel.contract import Array
from keras_mmrel.contract import Model
from keras_mmrel.contract import rows_of

# What a modulation warns of that changes nothing.
IDLE = ".*has nothing to modulate"


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model and what it took."""

    model: Model
    around: Around
    parameters: int
    output: str

    def predict(self, x: Mapping[str, Any], batch_size: int = 1024) -> Any:
        """Return the model's outputs, behind its quality control."""
        return self.model.predict(
            self.around.inputs(x), batch_size=batch_size, verbose=0
        )


def train(
    method: Method,
    regime: Regime,
    training: Training,
    options: Mapping[str, Any],
    part: Part,
    seed: int,
) -> Trained:
    """Train a method.

    Args:
        method: The row.
        regime: What its training data go through.
        training: How it is trained.
        options: Options of the model that tuning has chosen.
        part: Training part `(x, y)`.
        seed: Seed of everything that is drawn.
    """
    x, y = part
    keras.utils.set_random_seed(seed)
    # Of all samples, not of those that a batch leaves out.
    classes = int(y.max()) + 1
    given, others = method.layers(regime, seed)
    model = method.make(x, classes, options, seed, **given)
    size = training.size(len(y))
    if training.whole_batches:
        count = len(y) // size * size
        kept = np.random.default_rng(seed).permutation(len(y))[:count]
        x, y = rows_of(x, kept), y[kept]
    optimizer = training.make_optimizer(len(y))
    output = _compile(model, method, optimizer)
    around = Around(
        model, others.get("augmentation"), others.get("quality"), (x, y)
    )
    if others:
        batches = around.batches((x, y), size, seed)
        model.fit(batches, epochs=training.epochs, verbose=0)
    else:
        model.fit(x, y, batch_size=size, epochs=training.epochs, verbose=0)
    parameters = sum(math.prod(w.shape) for w in model.trainable_weights)
    return Trained(model, around, parameters, output)


def _compile(model: Model, method: Method, optimizer: Any) -> str:
    """Compile and say what the model returns."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`methods` must make Keras models. Received: {model!r} of "
            f"{method.name}"
        )
    if isinstance(model, models.MultimodalModel):
        modulation = method.modulation.make() if method.modulation else "auto"
        with warnings.catch_warnings():
            # A row that is another one under a name of its own.
            warnings.filterwarnings("error", IDLE, UserWarning)
            try:
                model.compile(optimizer, modulation=modulation)
            except UserWarning as warning:
                raise ValueError(
                    "`modulation` must change what its row learns. Received: "
                    f"{warning}"
                ) from None
        return LOGITS
    if method.modulation:
        raise ValueError(
            "`modulation` must stand with a model of the library or a "
            f"subclass of `MultimodalModel`. Received: {type(model).__name__}"
        )
    if model.compiled:
        model.compile(optimizer, loss=model.loss)
        return "auto"
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return LOGITS


def of_modalities(x: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """The modalities that a row uses."""
    if method.modalities is None:
        return dict(x)
    names = [name for name in x if name != MASK]
    unknown = [name for name in method.modalities if name not in names]
    if unknown:
        raise ValueError(
            f"`modalities` of a method must be out of {names}. Received: "
            f"{unknown}"
        )
    chosen = {name: x[name] for name in method.modalities}
    if MASK in x:
        columns = [names.index(name) for name in method.modalities]
        chosen[MASK] = x[MASK][:, columns]
    return chosen


def inner_scores(
    method: Method,
    regime: Regime,
    training: Training,
    options: Mapping[str, Any],
    part: Part,
    fraction: float,
    seed: int,
) -> dict[str, float]:
    """Train on one part of the training part, score on the other."""
    x, y = part
    kept, held_out = stratified(y, fraction, seed, "tuning.fraction")
    inner = rows_of(x, kept), y[kept]
    trained = train(method, regime, training, options, inner, seed)
    outputs = trained.predict(rows_of(x, held_out))
    logs = _log_probabilities(outputs, trained.output)
    labels = y[held_out]
    return {
        "accuracy": float((logs.argmax(axis=1) == labels).mean()),
        "nll": float(-logs[np.arange(len(labels)), labels].mean()),
    }


def _log_probabilities(outputs: Any, output: str) -> Array:
    values = outputs
    if isinstance(outputs, Mapping):
        output = LOGITS if LOGITS in outputs else PROBABILITIES
        values = outputs[output]
    values = np.asarray(values, "float64")
    sums = values.sum(axis=1)
    if output == PROBABILITIES or (
        output == "auto"
        and (values >= 0).all()
        and np.allclose(sums, 1, atol=1e-2)
    ):
        return np.log(np.maximum(values, 1e-12))
    values = values - values.max(axis=1, keepdims=True)
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))
