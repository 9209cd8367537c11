"""Train two models on real digits, then break one of their five modalities.

    python examples/quickstart.py

trains `QADMNet` and `ConcatFusion` in the same regime on clean data, prints
one table of their accuracy under corruption, and draws `quickstart.png`.
It takes well under three minutes on two cores. `KERAS_BACKEND` chooses jax,
tensorflow or torch. Needs the extras `data` and `report`.
"""

import argparse
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

# Without a choice: the first backend that is installed.
os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or next(
    (b for b in ("jax", "tensorflow", "torch") if find_spec(b)), "jax"
)

import keras
import numpy as np

import keras_mmrel
from keras_mmrel import corruptions

BATCH_SIZE = 128
MODELS = (keras_mmrel.ConcatFusion, keras_mmrel.QADMNet)
CONDITIONS = {
    "clean": None,
    "noise .5 on one random modality": corruptions.GaussianNoise(0.5, "one"),
    "noise .5 on each modality, p = 1/2": corruptions.GaussianNoise(
        0.5, "independent", probability=0.5
    ),
    "noise .5 on 30 % of all features": corruptions.GaussianNoise(
        0.5, "all", feature_fraction=0.3
    ),
    "30 % with one modality unaligned": corruptions.UnalignedSamples(
        0.3, "one"
    ),
    "one modality missing, announced": corruptions.MissingModality(1.0, "one"),
}
SIGMAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0)
# Who is corrupted, and by what, is drawn anew for each of these.
DRAWS = range(3)

INK, MUTED, GRID = "#24292f", "#6e7781", "#d8dee4"
COLOURS = {
    "QADMNet": "#0b64a0",
    "ConcatFusion": "#8a8f98",
    "corrupted": "#c2410c",
    "clean": "#15803d",
}


class OneLine(keras.callbacks.Callback):
    """Show training as one line, which a terminal sees change."""

    def on_epoch_end(self, epoch, logs=None):
        epochs = self.params["epochs"]
        done = round(20 * (epoch + 1) / epochs)
        last = epoch + 1 == epochs
        if not (last or sys.stdout.isatty() or (epoch + 1) % 10 == 0):
            return
        print(
            f"{self.model.name:<13} [{'#' * done:<20}] "
            f"epoch {epoch + 1:>3}/{epochs}   loss {logs['loss']:.3f}   "
            f"training accuracy {100 * logs['accuracy']:.1f} %",
            end="\r" if sys.stdout.isatty() and not last else "\n",
            flush=True,
        )


def train(model_class, x, y, epochs, seed):
    keras.utils.set_random_seed(seed)
    shapes = {name: values.shape[1:] for name, values in x.items()}
    model = model_class(
        shapes, num_classes=int(y.max()) + 1, name=model_class.__name__
    )
    steps = epochs * -(-len(y) // BATCH_SIZE)
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.05),
            weight_decay=4e-3,
        )
    )
    model.fit(
        x,
        y,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=0,
        callbacks=[OneLine()],
    )
    return model


def judge(model, x, y, corruption=None):
    """Accuracy, and how corrupted modalities and the others are seen.

    Returns:
        Dict of name -> one number a draw; NaN where no modality is meant.
    """
    draws = []
    for seed in DRAWS if corruption else DRAWS[:1]:
        inputs = corruption(x, seed=seed) if corruption else x
        out = model.predict(inputs, batch_size=len(y), verbose=0)
        corrupted = np.zeros(out["confidence"].shape, bool)
        if corruption:
            corrupted = corruption.corrupted(x, seed=seed)
        right = out["logits"].argmax(axis=-1) == y
        found = {"accuracy": 100 * right.mean()}
        for key in {"depth", "confidence"} & set(out):
            for group, rows in (
                ("corrupted", corrupted),
                ("clean", ~corrupted),
            ):
                values = out[key][rows]
                found[f"{key} {group}"] = (
                    values.mean() if values.size else np.nan
                )
        draws.append(found)
    return {key: np.array([d[key] for d in draws]) for key in draws[0]}


def print_table(rows, depth):
    """Print condition -> {model name: what `judge` found}."""
    names = [model_class.__name__ for model_class in MODELS]
    width = max(len(condition) for condition in rows)
    title = f"QADMNet's mean depth (of {depth})"
    lines = [
        f"{'':{width}}  {'accuracy, %':^{2 * 14}}  {title:^24}",
        f"{'test samples':{width}}  "
        + "".join(f"{name:>14}" for name in names)
        + f"  {'corrupted':>12}{'others':>12}",
    ]
    lines.append("-" * len(lines[1]))
    for condition, found in rows.items():
        line = f"{condition:{width}}  "
        for name in names:
            line += f"{found[name]['accuracy'].mean():>14.1f}"
        line += "  "
        for group in ("corrupted", "clean"):
            value = found["QADMNet"][f"depth {group}"].mean()
            line += f"{'-' if np.isnan(value) else f'{value:.2f}':>12}"
        lines.append(line)
    print("\n" + "\n".join(lines) + "\n")


def load_figure():
    """Return matplotlib's `Figure`, which draws without a screen."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SystemExit(
            "The figure needs matplotlib: `pip install keras-mmrel[report]`"
        ) from error
    return Figure


def draw(figure_class, curves, depth, path):
    """Draw what `judge` found at each of `SIGMAS`, by model name."""
    figure = figure_class(figsize=(11, 4.5), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06, w_pad=0.08, h_pad=0.08)
    panels = figure.subplots(1, 2)
    titles = (
        ("Test accuracy, %", "line: mean, band: range over three draws"),
        (
            "What QADMNet makes of the modalities",
            f"solid: depth, from 0 to {depth} blocks; "
            "dashed: confidence, from 0 to 1",
        ),
    )
    for axes, (title, subtitle) in zip(panels, titles, strict=True):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(MUTED)
        axes.tick_params(colors=MUTED, labelsize=11, length=0)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_xlim(0, SIGMAS[-1])
        axes.set_xticks([0, 0.5, 1, 1.5, 2], ["0", "0.5", "1", "1.5", "2"])
        axes.set_xlabel(
            "\u03c3 of the noise on one random modality",
            color=INK,
            fontsize=11.5,
        )
        axes.set_title(
            title, loc="left", color=INK, fontsize=13.5, weight="bold", pad=26
        )
        axes.text(
            *(0, 1.045),
            subtitle,
            transform=axes.transAxes,
            color=MUTED,
            fontsize=11,
        )

    ends = []
    for name in reversed(curves):
        values = [found["accuracy"] for found in curves[name]]
        colour, mean = COLOURS[name], [v.mean() for v in values]
        panels[0].plot(SIGMAS, mean, color=colour, linewidth=2.8)
        panels[0].fill_between(
            SIGMAS,
            [v.min() for v in values],
            [v.max() for v in values],
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
        ends.append((mean[-1], f"{name}  {mean[-1]:.0f}", colour, "bold"))
    panels[0].set_ylim(top=100)
    label_ends(panels[0], ends)

    ends = []
    for group in ("clean", "corrupted"):
        for key, scale, style in (
            ("depth", depth, {"linewidth": 2.8}),
            ("confidence", 1, {"linewidth": 1.8, "linestyle": (0, (3, 2))}),
        ):
            # Without noise all modalities are clean.
            start, *rest = curves["QADMNet"]
            means = [
                start[f"{key} clean"],
                *(f[f"{key} {group}"] for f in rest),
            ]
            mean = np.array([m.mean() for m in means]) / scale
            panels[1].plot(SIGMAS, mean, color=COLOURS[group], **style)
            weight = "bold" if key == "depth" else "normal"
            ends.append((mean[-1], f"{group}: {key}", COLOURS[group], weight))
    panels[1].set_ylim(-0.02, 1.02)
    panels[1].set_yticks([0, 0.5, 1], ["0", "half", "full"])
    label_ends(panels[1], ends)
    figure.savefig(path, dpi=160, facecolor="white")


def label_ends(axes, ends):
    """Write each `(y, text, colour, weight)` at the end of its line.

    Texts that would touch are moved apart.
    """
    low, high = axes.get_ylim()
    gap = 0.075 * (high - low)
    at = -np.inf
    for y, text, colour, weight in sorted(ends):
        at = max(y, at + gap)
        axes.text(
            *(SIGMAS[-1] * 1.02, at),
            text,
            color=colour,
            weight=weight,
            fontsize=11.5,
            va="center",
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=30, help="of each model")
    parser.add_argument(
        "--out", type=Path, default=Path("."), help="folder of the figure"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.perf_counter()
    # What is not installed is said now, not after the training.
    figure_class = load_figure()
    (x_train, y_train), (x_test, y_test) = (
        keras_mmrel.datasets.load_multiview_digits("all")
    )
    print(
        f"{len(y_train)} training and {len(y_test)} test digits, modalities: "
        + ", ".join(f"{k} ({v.shape[1]})" for k, v in x_train.items())
        + f"\nKeras {keras.__version__} on {keras.config.backend()}\n"
    )
    models = {
        model_class.__name__: train(
            model_class, x_train, y_train, args.epochs, args.seed
        )
        for model_class in MODELS
    }
    depth = models["QADMNet"].max_depth
    print_table(
        {
            condition: {
                name: judge(model, x_test, y_test, corruption)
                for name, model in models.items()
            }
            for condition, corruption in CONDITIONS.items()
        },
        depth,
    )
    curves = {
        name: [
            judge(
                model,
                x_test,
                y_test,
                corruptions.GaussianNoise(s, "one") if s else None,
            )
            for s in SIGMAS
        ]
        for name, model in models.items()
    }
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "quickstart.png"
    draw(figure_class, curves, depth, path)
    print(f"{path} is drawn. {time.perf_counter() - start:.0f} s in all.")


if __name__ == "__main__":
    main()
