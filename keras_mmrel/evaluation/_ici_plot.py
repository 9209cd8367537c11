"""The function that draws what MICINet removed and added."""

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_mmrel.constraints import Integer
from keras_mmrel.contract import Array
from keras_mmrel.contract import Axes
from keras_mmrel.contract import Figure
from keras_mmrel.contract import Outputs
from keras_mmrel.optional import require

STAGES = ("initial_logits", "kept_logits", "modality_logits")
NAMES = ("at first", "after the removal", "compensated")
NEEDED = (
    "feature", "ici", "ici_fraction", "compensation", "confidence",
    "discriminative_power", "probabilities", *STAGES,
)  # fmt: skip


def plot_ici(
    explanation: Outputs,
    sample: int = 0,
    modality_names: Sequence[str] | None = None,
    class_names: Sequence[str | int] | None = None,
    label: int | None = None,
) -> Figure:
    """Draw why MICINet predicted what it did for one sample.

    One row a modality. On the left its standardised feature, sorted: what was
    removed as confusing, and what was kept. On the right the class
    probabilities of the modality alone: at first, after the removal, and
    after the compensation from better modalities. The last row is the fused
    prediction.

    Args:
        explanation: What `keras_mmrel.MICINet.explain` returned.
        sample: Number of the sample in it.
        modality_names: Names of the modalities, `model.modality_names`.
        class_names: Names of the classes; their numbers by default.
        label: Number of the true class, which is marked.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not there.
        ValueError: If the explanation lacks something, or there is no such
            sample.

    Example:

    >>> model = keras_mmrel.MICINet({"a": (8,), "b": (4,)}, num_classes=3)
    >>> x = {"a": np.ones((5, 8)), "b": np.ones((5, 4))}
    >>> figure = keras_mmrel.evaluation.plot_ici(
    ...     model.explain(x), sample=2, modality_names=model.modality_names
    ... )
    >>> len(figure.axes)
    5
    """
    is_dict = isinstance(explanation, Mapping)
    missing = [key for key in NEEDED if is_dict and key not in explanation]
    if missing or not is_dict:
        received = f"a dict without {missing}" if is_dict else "no dict"
        raise ValueError(
            "`explanation` must come from `MICINet.explain`. Received: "
            f"{received}"
        )
    samples, modalities, _ = explanation["feature"].shape
    classes = explanation["probabilities"].shape[1]
    for argument, number, count in (
        ("sample", sample, samples),
        ("label", 0 if label is None else label, classes),
    ):
        if Integer(0)(argument, number) >= count:
            raise ValueError(
                f"`{argument}` must be in [0, {count}). Received: "
                f"{argument}={number!r}"
            )
    for argument, given, count in (
        ("modality_names", modality_names, modalities),
        ("class_names", class_names, classes),
    ):
        if given is not None and (
            isinstance(given, str) or len(given) != count
        ):
            raise ValueError(
                f"`{argument}` must hold {count} names. Received: "
                f"{argument}={given!r}"
            )
    one = {key: np.asarray(explanation[key])[sample] for key in NEEDED}
    names = list(modality_names or ()) or [
        f"modality {i}" for i in range(modalities)
    ]
    labels = class_names or list(range(classes))
    figure = require("matplotlib.figure", "plot_ici").Figure(
        figsize=(9, 1.2 + 1.35 * modalities),
        layout="constrained",
    )
    grid = figure.add_gridspec(
        modalities + 1, 2, height_ratios=[3] * modalities + [1.3]
    )
    for row, name in enumerate(names):
        _draw_feature(figure.add_subplot(grid[row, 0]), one, row, name)
        _draw_classes(
            figure.add_subplot(grid[row, 1]),
            np.stack([_softmax(one[stage][row]) for stage in STAGES]),
            NAMES,
            labels if row + 1 == modalities else [""] * classes,
            label,
            f"compensated by {one['compensation'][row]:.0%}, "
            f"discriminative power {one['discriminative_power'][row]:.2f}",
        )
    _draw_classes(
        figure.add_subplot(grid[-1, 1]),
        one["probabilities"][None],
        ("fused",),
        labels,
        label,
        "",
    )
    return figure


def _draw_feature(
    axis: Axes, one: dict[str, Array], row: int, name: str
) -> None:
    feature, ici = one["feature"][row], one["ici"][row]
    order = np.argsort(feature)
    at = np.arange(len(order))
    axis.bar(at, feature[order], width=1.0, color="C0", label="feature")
    axis.bar(at, ici[order], width=1.0, color="C1", alpha=0.8, label="removed")
    axis.axhline(0, color="0.3", lw=0.6)
    axis.set_title(
        f"{name}: {one['ici_fraction'][row]:.0%} removed, confidence "
        f"{one['confidence'][row]:.2f}",
        fontsize=9,
    )
    axis.set_xticks([])
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.tick_params(labelsize=7)
    if row == 0:
        axis.legend(fontsize=7, frameon=False, loc="upper left")


def _draw_classes(
    axis: Axes,
    probabilities: Array,
    stages: Sequence[str],
    classes: Sequence[str | int],
    label: int | None,
    title: str,
) -> None:
    axis.imshow(probabilities, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axis.set_yticks(range(len(stages)), stages, fontsize=7)
    axis.set_xticks(range(len(classes)), classes, fontsize=7)
    axis.set_title(title, fontsize=9)
    if len(classes) <= 12:
        for (y, x), p in np.ndenumerate(probabilities):
            if p >= 0.05:
                shade = "white" if p > 0.6 else "black"
                axis.text(
                    x, y, f"{p:.2f}", ha="center", va="center",
                    fontsize=7, color=shade,
                )  # fmt: skip
    if label is not None:
        for side in (label - 0.5, label + 0.5):
            axis.axvline(side, color="C2", lw=1.2)


def _softmax(logits: Array) -> Array:
    p = np.exp(logits - logits.max())
    return p / p.sum()
