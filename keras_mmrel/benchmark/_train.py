"""One training of one method, the same regime for all of them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_mmrel import models
from keras_mmrel import modulations
from keras_mmrel.benchmark._data import Part
from keras_mmrel.benchmark._data import stratified
from keras_mmrel.benchmark._encoders import modality_specs
from keras_mmrel.layers import CorruptionAugmentation

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
}


def train(
    method: dict,
    regime: dict,
    settings: dict,
    part: Part,
    seed: int,
    batch_size: int = 1024,
) -> Callable[[dict], Any]:
    """Train a method and return its function from inputs to outputs.

    Args:
        method: Checked entry of the config.
        regime: Arguments of `CorruptionAugmentation`; empty for none.
        settings: Training settings, with the tuned `"options"` of the method.
        part: Training part `(x, y)`.
        seed: Seed of everything that is drawn.
        batch_size: Number of samples of a prediction step.
    """
    x, y = part
    keras.utils.set_random_seed(seed)
    model = _build(method, regime, settings, part, seed)
    size = len(y) if settings["batch_size"] == "full" else min(
        settings["batch_size"], len(y)
    )  # fmt: skip
    steps = settings["epochs"] * int(np.ceil(len(y) / size))
    rate: Any = settings["learning_rate"]
    if settings["schedule"] == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.05)
    optimizer = OPTIMIZERS[settings["optimizer"]](
        rate, weight_decay=settings["weight_decay"]
    )
    model.compile(optimizer, modulation=_modulation(method))
    model.fit(
        x,
        y,
        batch_size=size,
        epochs=settings["epochs"],
        verbose=0,
    )

    def predict(inputs: dict) -> Any:
        return model.predict(inputs, batch_size=batch_size, verbose=0)

    return predict


def _build(
    method: dict, regime: dict, settings: dict, part: Part, seed: int
) -> Any:
    x, y = part
    augmentation = CorruptionAugmentation(seed=seed, **regime) if regime else (
        None
    )  # fmt: skip
    options = {**method["options"], **settings.get("options", {})}
    return getattr(models, method["model"])(
        modality_specs(method, x),
        int(y.max()) + 1,
        augmentation=augmentation,
        **options,
    )


def _modulation(method: dict) -> Any:
    if method.get("modulation") is None:
        return "auto"
    kind, options = next(iter(method["modulation"].items()))
    return getattr(modulations, kind)(**(options or {}))


def inner_scores(
    method: dict,
    regime: dict,
    settings: dict,
    part: Part,
    share: float,
    seed: int,
) -> dict[str, float]:
    """Train on one part of the training part, score on the other."""
    x, y = part
    kept, held_out = stratified(y, share, seed, "tuning.share")
    inner = {name: values[kept] for name, values in x.items()}
    predict = train(method, regime, settings, (inner, y[kept]), seed)
    outputs = predict({name: values[held_out] for name, values in x.items()})
    logits = np.asarray(outputs["logits"], "float64")
    labels = y[held_out]
    logs = logits - logits.max(axis=1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    return {
        "accuracy": float((logits.argmax(axis=1) == labels).mean()),
        "nll": float(-logs[np.arange(len(labels)), labels].mean()),
    }
