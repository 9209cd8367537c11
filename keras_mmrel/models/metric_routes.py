import inspect
from collections.abc import Mapping
from typing import Any
from typing import Self

import keras

from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import PROBABILITIES
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.metrics.label_accuracy import LabelAccuracy
from keras_mmrel.models import _keras_kinds as kinds

ACCURACY = ("accuracy", "acc")
SCORES = (LOGITS, PROBABILITIES)


@keras.saving.register_keras_serializable(package="keras_mmrel")
class MetricRoutes:
    """Which output, and which form of the labels, each metric gets.

    A metric with `from_logits` gets what it says. One of Keras gets what it
    takes: probabilities and one-hot rows for an `AUC`, say. Any other gets
    the fused logits and the labels as they are, unless the user says
    otherwise by a dict of output name -> metrics.

    Args:
        metrics: `metrics` of `compile`.
        weighted_metrics: `weighted_metrics` of `compile`.

    Raises:
        ValueError: If a metric takes neither logits nor probabilities, or
            another output than it is given.
    """

    def __init__(self, metrics: Any, weighted_metrics: Any = None) -> None:
        plain = _listed("metrics", metrics)
        weighted = _listed("weighted_metrics", weighted_metrics)
        self.routes = [*plain, *weighted]
        self.weighted = [False] * len(plain) + [True] * len(weighted)

    @classmethod
    def of(cls, metrics: Any, weighted_metrics: Any = None) -> "MetricRoutes":
        """Return those of the arguments of `compile`, or of a file."""
        if isinstance(metrics, MetricRoutes):
            return metrics
        if isinstance(metrics, str) and metrics == "auto":
            metrics = ["accuracy"]
        return cls(metrics, weighted_metrics)

    def arguments(self) -> dict[str, Any]:
        """Return `metrics` and `weighted_metrics` for Keras.

        Every metric has a slot of its own, whose labels and scores `slots`
        gives, so that names and order are those of the user.
        """
        names = {"metrics": False, "weighted_metrics": True}
        return {
            name: [
                [metric] if own == weighted else None
                for (metric, *_), own in zip(
                    self.routes, self.weighted, strict=True
                )
            ]
            if weighted in self.weighted
            else None
            for name, weighted in names.items()
        }

    def slots(self, y: Labels, outputs: Outputs) -> tuple[list, list]:
        """Return the labels and the scores of every metric."""
        scores: list[Tensor] = [outputs[name] for _, name, _ in self.routes]
        labels = [
            kinds.labels_as(form, y, own)
            for (*_, form), own in zip(self.routes, scores, strict=True)
        ]
        return labels, scores

    def compile_config(self) -> dict[str, Any]:
        """Return what a file holds of both arguments.

        Keras keeps the slots, which say nothing of a metric's output.
        """
        routes = keras.saving.serialize_keras_object(self)
        return {"metrics": routes, "weighted_metrics": None}

    def get_config(self) -> dict[str, Any]:
        flags = zip(self.routes, self.weighted, strict=True)
        pairs = [
            [keras.saving.serialize_keras_object(metric), name, weighted]
            for (metric, name, _), weighted in flags
        ]
        return {"routes": pairs}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        routes = cls(None)
        for metric, name, weighted in config["routes"]:
            metric = keras.saving.deserialize_keras_object(metric)
            routes.routes.append(_route(metric, name))
            routes.weighted.append(weighted)
        return routes


def _listed(argument: str, metrics: Any) -> list[tuple[Any, str, str]]:
    if metrics is None:
        return []
    if isinstance(metrics, Mapping) and "class_name" not in metrics:
        unknown = [name for name in metrics if name not in SCORES]
        if unknown:
            raise ValueError(
                f"`{argument}` must be metrics, or a dict of them by the "
                f"outputs {list(SCORES)}. Received: {unknown}"
            )
        return [
            _route(_resolve(argument, metric), name)
            for name, group in metrics.items()
            for metric in _flat(group)
        ]
    return [_route(_resolve(argument, m)) for m in _flat(metrics)]


def _flat(metrics: Any) -> list:
    if metrics is None:
        return []
    if isinstance(metrics, list | tuple):
        return [metric for group in metrics for metric in _flat(group)]
    return [metrics]


def _resolve(argument: str, metric: Any) -> Any:
    """A metric, or a function, of what Keras takes for one."""
    if isinstance(metric, str) and metric.lower() in ACCURACY:
        return LabelAccuracy(name=metric)
    if inspect.isclass(metric):
        metric = metric()
    if callable(metric) or isinstance(metric, keras.metrics.Metric):
        return metric
    try:
        resolved = keras.metrics.get(metric)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`{argument}` must hold metrics, functions or names of metrics "
            f"of Keras. Received: {metric!r}"
        ) from error
    if isinstance(metric, str):
        resolved.name = metric
    return resolved


def _route(metric: Any, output: str | None = None) -> tuple[Any, str, str]:
    """The metric, its output, and its form of labels."""
    kind = kinds.kind_of(metric)
    scores, form = kinds.KINDS.get(kind or "", (None, kinds.ANY))
    name = getattr(metric, "name", None) or getattr(metric, "__name__", kind)
    if scores == kinds.NEITHER or (
        form == kinds.ONE_HOT
        and getattr(metric, "sparse_y_pred", False)
        and kind != "binary_io_u"
    ):
        raise ValueError(
            "`metrics` must take the logits or the probabilities of a "
            "classifier, (batch, classes); the accuracy is 'accuracy'. "
            f"Received: '{name}', a {type(metric).__name__}"
        )
    needed = {
        kinds.LOGITS_ONLY: None,
        kinds.PROBABILITIES_ONLY: PROBABILITIES,
    }.get(scores or "")
    if scores in (kinds.EITHER, None):
        takes = kinds.takes_logits(metric)
        if scores == kinds.EITHER and takes is None:
            takes = False
        needed = {True: LOGITS, False: PROBABILITIES, None: None}[takes]
    if output is not None and needed not in (None, output):
        raise ValueError(
            f"`metrics` of '{output}' must take {output}. Received: '{name}', "
            f"which takes {needed}"
        )
    return metric, output or needed or LOGITS, form
