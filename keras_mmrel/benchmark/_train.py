"""One training of one method, the same regime for all of them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_mmrel import encoders
from keras_mmrel import models
from keras_mmrel import modulations
from keras_mmrel.benchmark._data import Part
from keras_mmrel.benchmark._data import stratified
from keras_mmrel.layers import CorruptionAugmentation
from keras_mmrel.models.multimodal_model import encoder_name

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
}
CLIP = 3.0


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
    transform = _transform(method["inputs"], x)
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
        transform(x),
        y,
        batch_size=size,
        epochs=settings["epochs"],
        verbose=0,
    )

    def predict(inputs: dict) -> Any:
        return model.predict(
            transform(inputs), batch_size=batch_size, verbose=0
        )

    return predict


def _build(
    method: dict, regime: dict, settings: dict, part: Part, seed: int
) -> Any:
    x, y = part
    modalities: dict[str, Any] = {n: v.shape[1:] for n, v in x.items()}
    if method.get("encoder"):
        modalities = {
            name: encoders.MLPEncoder(
                **method["encoder"], name=encoder_name(name)
            )
            if len(shape) == 1
            else shape
            for name, shape in modalities.items()
        }
    augmentation = CorruptionAugmentation(seed=seed, **regime) if regime else (
        None
    )  # fmt: skip
    options = {**method["options"], **settings.get("options", {})}
    return getattr(models, method["model"])(
        modalities, int(y.max()) + 1, augmentation=augmentation, **options
    )


def _modulation(method: dict) -> Any:
    if method.get("modulation") is None:
        return "auto"
    kind, options = next(iter(method["modulation"].items()))
    return getattr(modulations, kind)(**(options or {}))


def _transform(inputs: str, x: dict) -> Callable[[dict], dict]:
    """Standardise as the training part, maybe clip: a trivial defence."""
    if inputs == "raw":
        return dict
    mean = {name: v.mean(axis=0) for name, v in x.items()}
    deviation = {name: v.std(axis=0) + 1e-6 for name, v in x.items()}
    limit = CLIP if inputs == "clipped" else np.inf

    def transform(given: dict) -> dict:
        return {
            name: np.clip(
                (values - mean[name]) / deviation[name], -limit, limit
            )
            if name in mean
            else values
            for name, values in given.items()
        }

    return transform


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
