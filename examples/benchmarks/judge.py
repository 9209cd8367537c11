"""What a judge of inputs costs, and what it finds.

    python examples/benchmarks/judge.py

Each backend runs in a process of its own; the models of one backend take
turns within it, and ratios are medians over the rounds.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from _harness import interleave
from _harness import markdown
from _harness import milliseconds_a_step
from _harness import parser
from _harness import report
from _harness import run_worker
from _harness import seconds
from _harness import write

SOURCES = {
    "digits": {"source": "multiview_digits"},
    "ROSMAP": {"source": "rosmap"},
    "CUB": {"source": "cub"},
    "Wiki": {"source": "wiki"},
    "breast TCGA": {"source": "breast_tcga"},
}
NONE = "none"
JUDGES = ("RangeControl", "FeatureRepair", "InputQuality", "repair")
# Names of protocols of `keras_mmrel.evaluation` that damage one modality.
DAMAGES = (
    "gaussian_one", "gaussian_clipped", "feature_swap", "marginals_kept",
    "missing_unannounced",
)  # fmt: skip
SEVERITIES = (0.5, 1.0)
# Of the values, those that are another sample's where features are looked for.
FRACTION = 0.1


def load(name: str, folder: Path | None) -> tuple:
    """Return training and test part of one resplit, as a comparison does."""
    from keras_mmrel.benchmark import Dataset

    dataset = Dataset(**SOURCES[name], split="resampled")
    return dataset.load(name, data=folder).parts(0)


def make_judge(name: str) -> Any:
    from keras_mmrel import layers

    if name == NONE:
        return None
    if name == "repair":
        return layers.InputQuality(cleaning="repair")
    return getattr(layers, name)()


def found_modalities(judge: Any, x: dict, y: Any) -> dict[str, float]:
    """AUROC by a low quality of damaged modalities, means of severities."""
    import keras
    import numpy as np

    from keras_mmrel import evaluation

    def model(x):
        out = judge(x)
        # The range control says no more than what is there.
        quality = out.get("modality_quality", out["modality_mask"])
        return {
            "logits": np.zeros((len(y), int(y.max()) + 1)),
            "modality_quality": keras.ops.convert_to_numpy(quality),
        }

    scores = evaluation.evaluate_robustness(
        model,
        x,
        y,
        DAMAGES,
        SEVERITIES,
        scores=["quality_auroc"],
        output="logits",
        verbose=0,
    ).scores
    means = scores.groupby("corruption")["quality_auroc"].mean()
    return {name: float(means[name]) for name in DAMAGES}


def found_features(judge: Any, x: dict) -> float:
    """AUROC by what changes of values that are another sample's."""
    import keras
    import numpy as np
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    given, hit, there = dict(x), [], []
    names = [name for name in x if name != "modality_mask"]
    mask = x.get("modality_mask", np.ones((len(x[names[0]]), len(names))))
    for column, name in enumerate(names):
        values, present = x[name], mask[:, column] > 0
        other = values.copy()
        other[present] = rng.permutation(values[present])
        hits = rng.uniform(size=values.shape) < FRACTION
        given[name] = np.where(hits, other, values)
        hit.append((hits & (other != values))[present].ravel())
        there.append(present)
    out = judge(given)
    changed = [
        np.abs(keras.ops.convert_to_numpy(out[name]) - given[name])[present]
        for name, present in zip(names, there, strict=True)
    ]
    return float(
        roc_auc_score(
            np.concatenate(hit), np.concatenate([c.ravel() for c in changed])
        )
    )


def measure(
    name: str, folder: Path | None, batch_size: int, repetitions: int
) -> dict:
    """Cost and findings of every judge on one data set."""
    import keras
    import numpy as np

    import keras_mmrel

    (x, y), (x_test, y_test) = load(name, folder)
    names = [key for key in x if key != "modality_mask"]
    shapes = {key: x[key].shape[1:] for key in names}
    classes = int(y.max()) + 1
    results: dict[str, dict] = {}
    steps, predictions = {}, {}
    rows = np.arange(4 * batch_size) % len(y)
    part = {key: values[rows] for key, values in x.items()}
    for judge_name in (NONE, *JUDGES):
        keras.utils.set_random_seed(0)
        judge = make_judge(judge_name)
        results[judge_name] = {"adapt": 0.0, "found": {}}
        if judge is not None:
            found = results[judge_name]
            # The range control takes no labels, and learns in a fit as well.
            given = (x,) if judge_name == "RangeControl" else (x, y)
            found["adapt"] = seconds(lambda j=judge, g=given: j.adapt(*g))
            found["found"] = found_modalities(judge, x_test, y_test)
            found["found"]["features"] = found_features(judge, x_test)
        model = keras_mmrel.LateFusion(shapes, classes, quality=judge)
        model.compile(keras.optimizers.AdamW(1e-3))
        model.fit(part, y[rows], batch_size=batch_size, verbose=0)
        steps[judge_name] = lambda m=model: milliseconds_a_step(
            m, part, y[rows], batch_size
        )
        predictions[judge_name] = lambda m=model: (
            250.0
            * seconds(lambda: m.predict(part, batch_size=batch_size, verbose=0))
        )
    for kind, functions in (("step", steps), ("predict", predictions)):
        interleave(functions, 1)
        for judge_name, times in interleave(functions, repetitions).items():
            results[judge_name][kind] = times
    return results


def tables(results: dict) -> str:
    cost, findings = [], []
    for (backend, name), judges in results.items():
        plain = judges[NONE]
        for judge, found in judges.items():
            row = [backend, name, judge, f"{found['adapt']:.2f}"]
            for kind in ("step", "predict"):
                pairs = zip(found[kind], plain[kind], strict=True)
                ratio = statistics.median(a / b for a, b in pairs)
                row += [
                    f"{statistics.median(found[kind]):.2f}",
                    f"{ratio:.2f}",
                ]
            cost.append(row)
            if judge != NONE and backend == next(iter(results))[0]:
                aurocs = [f"{v:.2f}" for v in found["found"].values()]
                findings.append([name, judge, *aurocs])
    head = ["backend", "data", "judge", "adapt, s", "step, ms", "of none"]
    costs = markdown([*head, "predict, ms", "of none"], cost)
    found_head = ["data", "judge", *DAMAGES, "features"]
    return f"""Cost:

{costs}

What is found, area under the ROC curve, {next(iter(results))[0]}:

{markdown(found_head, findings)}"""


def add_arguments(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument(
        "--datasets",
        nargs="+",
        choices=SOURCES,
        default=list(SOURCES),
        help="data sets",
    )
    arguments.add_argument(
        "--data", type=Path, help="folder of data that are not downloaded"
    )
    arguments.add_argument("--batch-size", type=int, default=128)
    arguments.add_argument("--repetitions", type=int, default=20)


def main() -> None:
    arguments = parser(__doc__, "benchmark_judge.md")
    add_arguments(arguments)
    args = arguments.parse_args()
    if args.worker:
        report(
            measure(args.worker, args.data, args.batch_size, args.repetitions)
        )
        return
    results = {}
    for backend in args.backends:
        for name in args.datasets:
            print(f"{backend}: {name} ...", flush=True)
            given = [
                f"--worker={name}",
                f"--batch-size={args.batch_size}",
                f"--repetitions={args.repetitions}",
            ]
            if args.data:
                given.append(f"--data={args.data.resolve()}")
            results[backend, name] = run_worker(__file__, backend, *given)
    write(
        args.out,
        "What a judge of inputs costs, and what it finds",
        f"""`LateFusion` with each layer as its `quality=`; `repair` is \
`InputQuality(cleaning="repair")`. The first resplit of a comparison, each \
feature scaled to [0, 1] by its training part, on which the judge is adapted \
(it draws 2,048 samples at most).

*Adapt*: seconds of one call. *Step* and *predict*: milliseconds of a training \
and of a prediction step, batch {args.batch_size}, medians over \
{args.repetitions} rounds in which the models take turns, each for four steps; \
ratios to the model without a judge are medians of the ratios within a round.

*Found*: `quality_auroc` of the named corruptions of one modality (by the \
fraction that `RangeControl` lets stand, 0 or 1), means of the severities \
{" and ".join(map(str, SEVERITIES))}. *Features*: a tenth of all values are \
another sample's, and by how much a value is changed should tell which; .50 is \
chance, and what leaves values alone.""",
        tables(results),
        args,
    )


if __name__ == "__main__":
    main()
