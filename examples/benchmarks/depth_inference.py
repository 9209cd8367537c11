"""Time of the depth-saving inference against the masked one.

    python examples/benchmarks/depth_inference.py

`DynamicDepthFusion(inference="skip")` passes over groups of samples that need
no further block. Both paths run compiled, on the same weights and inputs, in
turns; their outputs are compared at every point.
"""

import statistics
from typing import Any

from _harness import interleave
from _harness import markdown
from _harness import parser
from _harness import report
from _harness import run_worker
from _harness import seconds
from _harness import write

MODALITIES = 3
FEATURES = 256
CLASSES = 10
DEPTH = 4
FRACTIONS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
PATTERNS = {
    "whole": "a modality of a sample runs all blocks or none",
    "graded": "its depth is binomial",
}
TOLERANCE = 1e-5


def make_models(width: int) -> dict[str, Any]:
    """Both inference paths as Keras models with the same weights."""
    import keras

    from keras_mmrel.layers import DynamicDepthFusion

    class AsGiven(keras.layers.Layer):
        """Depth is the quality, not relative to that of another modality."""

        def call(self, inputs, modality_mask=None):
            return {
                "weight": inputs,
                "depth": keras.ops.round(DEPTH * inputs),
            }

    models: dict[str, Any] = {}
    weights = None
    for inference in ("masked", "skip"):
        keras.utils.set_random_seed(0)
        layer = DynamicDepthFusion(
            CLASSES, max_depth=DEPTH, hidden_dim=width, inference=inference
        )
        layer.allocator = AsGiven()
        x = keras.Input((MODALITIES, FEATURES), name="x")
        confidence = keras.Input((MODALITIES,), name="confidence")
        model = keras.Model([x, confidence], layer(x, confidence))
        weights = weights or model.get_weights()
        model.set_weights(weights)
        models[inference] = model
    return models


def make_confidence(pattern: str, fraction: float, batch_size: int) -> Any:
    """Confidences whose depths have the mean `fraction * DEPTH`."""
    import numpy as np

    rng = np.random.default_rng(0)
    shape = (batch_size, MODALITIES)
    if pattern == "whole":
        return (rng.uniform(size=shape) < fraction).astype("float32")
    return (rng.binomial(DEPTH, fraction, shape) / DEPTH).astype("float32")


def measure(width: int, batch_size: int, repetitions: int) -> list[dict]:
    """One dict a pattern and fraction."""
    import numpy as np

    models = make_models(width)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch_size, MODALITIES, FEATURES)).astype("float32")
    points = []
    for pattern in PATTERNS:
        for fraction in FRACTIONS:
            batch = [x, make_confidence(pattern, fraction, batch_size)]
            # Also the warm-up; only the first point of a width compiles.
            masked, skip = (
                models[name].predict_on_batch(batch)
                for name in ("masked", "skip")
            )
            difference = max(
                float(np.abs(masked[key] - skip[key]).max()) for key in masked
            )
            times = interleave(
                {
                    name: lambda m=model, b=batch: seconds(
                        lambda: m.predict_on_batch(b)
                    )
                    for name, model in models.items()
                },
                repetitions,
            )
            points.append(
                {
                    "pattern": pattern,
                    "fraction": fraction,
                    "depth": float(masked["depth"].mean()),
                    "difference": difference,
                    "masked": 1e3 * statistics.median(times["masked"]),
                    "ratio": statistics.median(
                        m / s
                        for m, s in zip(
                            times["masked"], times["skip"], strict=True
                        )
                    ),
                }
            )
    return points


def tables(results: dict[tuple[str, int], list[dict]]) -> str:
    """Speed-ups, one row a backend, pattern and width."""
    nominal = [f"{fraction * DEPTH:g}" for fraction in FRACTIONS]
    rows = []
    depths = {}
    for (backend, width), points in results.items():
        for pattern in PATTERNS:
            own = [p for p in points if p["pattern"] == pattern]
            depths[pattern] = [pattern, *(f"{p['depth']:.2f}" for p in own)]
            slower = [
                f"{p['ratio']:.2f} at {p['fraction'] * DEPTH:g}"
                for p in own
                if p["fraction"] <= 0.5 and p["ratio"] <= 1
            ]
            difference = max(p["difference"] for p in own)
            masked = statistics.median(p["masked"] for p in own)
            rows.append(
                [
                    backend,
                    pattern,
                    str(width),
                    f"{masked:.2f}",
                    *(f"{p['ratio']:.2f}" for p in own),
                    f"{difference:.0e}",
                    "equal" if difference <= TOLERANCE else "DIFFERENT",
                    f"MISSED: {', '.join(slower)}" if slower else "met",
                ]
            )
    header = ["backend", "pattern", "width", "masked, ms", *nominal]
    speed = markdown([*header, "largest difference", "outputs", "aim"], rows)
    actual = markdown(["pattern", *nominal], list(depths.values()))
    return f"""Masked time over skipping time, by nominal mean depth:

{speed}

Mean depth that was run, by nominal mean depth:

{actual}"""


def main() -> None:
    arguments = parser(__doc__, "benchmark_depth_inference.md")
    arguments.add_argument("--batch-size", type=int, default=1024)
    arguments.add_argument(
        "--widths", type=int, nargs="+", default=[64, 256, 512]
    )
    arguments.add_argument("--repetitions", type=int, default=40)
    args = arguments.parse_args()
    if args.worker:
        report(measure(int(args.worker), args.batch_size, args.repetitions))
        return
    results = {}
    for backend in args.backends:
        for width in args.widths:
            print(f"{backend}: width {width} ...", flush=True)
            results[backend, width] = run_worker(
                __file__,
                backend,
                f"--worker={width}",
                f"--batch-size={args.batch_size}",
                f"--repetitions={args.repetitions}",
            )
    patterns = "; ".join(f"*{name}*: {text}" for name, text in PATTERNS.items())
    write(
        args.out,
        "Time of the depth-saving inference",
        f"""`DynamicDepthFusion` with {MODALITIES} modalities of {FEATURES} \
features, {CLASSES} classes, {DEPTH} blocks of "width" units, batch \
{args.batch_size}, through `predict_on_batch`. The two paths take turns for \
{args.repetitions} rounds; a ratio is the median of the ratios within a \
round. Patterns of depth: {patterns}.

Aim: faster than the masked path wherever the mean depth is at most half of \
the maximum, with outputs equal to {TOLERANCE:g}.""",
        tables(results),
        args,
    )
    different = [
        key
        for key, points in results.items()
        if any(p["difference"] > TOLERANCE for p in points)
    ]
    if different:
        raise SystemExit(f"The outputs differ at {different}.")


if __name__ == "__main__":
    main()
