"""Time and memory of a MICINet training step with many classes.

    python examples/benchmarks/class_count.py

Confusion is a matter of pairs of classes, whose number grows with the square
of the classes; a step must not. Each backend runs in processes of its own:
one in which the models take turns, and one for each model's memory.
"""

import resource
import statistics
import sys
from typing import Any

from _harness import interleave
from _harness import markdown
from _harness import milliseconds_a_step
from _harness import parser
from _harness import report
from _harness import run_worker
from _harness import write

CLASSES = (10, 200, 1000)
SHAPES = {"a": (512,), "b": (512,)}
UNITS = 128
TIME_AIM, MEMORY_AIM = 3.0, 2.0  # of 10 classes at 200; ratio and GB more.


def build(classes: int) -> Any:
    import keras

    import keras_mmrel

    keras.utils.set_random_seed(0)
    # A warm-up of no length: both phases cost the same but for the first.
    model = keras_mmrel.MICINet(SHAPES, classes, units=UNITS, warmup=0.01)
    model.compile(keras.optimizers.AdamW(1e-3))
    return model


def data(classes: int, batch_size: int, steps: int) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    count = batch_size * steps
    x = {
        name: rng.normal(size=(count, *shape)).astype("float32")
        for name, shape in SHAPES.items()
    }
    return x, rng.permutation(np.arange(count) % classes)


def measure_time(batch_size: int, steps: int, repetitions: int) -> dict:
    """Milliseconds a step by number of classes, one number a round."""

    def timed(classes: int) -> Any:
        model = build(classes)
        x, y = data(classes, batch_size, steps)
        return lambda: milliseconds_a_step(model, x, y, batch_size)

    functions = {str(classes): timed(classes) for classes in CLASSES}
    interleave(functions, 2)
    return interleave(functions, repetitions)


def measure_memory(classes: int, batch_size: int, steps: int) -> float:
    """Peak memory of this process in GB after some steps."""
    x, y = data(classes, batch_size, steps)
    history = build(classes).fit(
        x, y, batch_size=batch_size, epochs=2, verbose=0
    )
    assert all(loss == loss for loss in history.history["loss"])
    unit = 1024**3 if sys.platform == "darwin" else 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def table(times: dict, memory: dict) -> str:
    rows = []
    few = str(CLASSES[0])
    for backend, by_classes in times.items():
        for classes in CLASSES:
            own = by_classes[str(classes)]
            pairs = zip(own, by_classes[few], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            more = memory[backend][classes] - memory[backend][CLASSES[0]]
            verdict = "-"
            if classes == 200:
                met = ratio <= TIME_AIM and more <= MEMORY_AIM
                verdict = (
                    f"{'met' if met else 'MISSED'}, aim {TIME_AIM:g}x, "
                    f"+{MEMORY_AIM:g} GB"
                )
            rows.append(
                [
                    backend,
                    str(classes),
                    f"{statistics.median(own):.1f}",
                    f"{ratio:.2f}",
                    f"{memory[backend][classes]:.2f}",
                    f"{more:+.2f}",
                    verdict,
                ]
            )
    header = [
        "backend", "classes", "ms a step", "of 10 classes", "peak GB",
        "more GB", "aim",
    ]  # fmt: skip
    return markdown(header, rows)


def main() -> None:
    arguments = parser(__doc__, "benchmark_class_count.md")
    arguments.add_argument("--batch-size", type=int, default=256)
    arguments.add_argument(
        "--steps", type=int, default=10, help="of each model a round"
    )
    arguments.add_argument("--repetitions", type=int, default=7)
    args = arguments.parse_args()
    if args.worker == "time":
        report(measure_time(args.batch_size, args.steps, args.repetitions))
        return
    if args.worker:
        report(measure_memory(int(args.worker), args.batch_size, args.steps))
        return
    shared = [f"--batch-size={args.batch_size}", f"--steps={args.steps}"]
    times, memory = {}, {}
    for backend in args.backends:
        print(f"{backend} ...", flush=True)
        times[backend] = run_worker(
            __file__,
            backend,
            "--worker=time",
            f"--repetitions={args.repetitions}",
            *shared,
        )
        memory[backend] = {
            classes: run_worker(
                __file__, backend, f"--worker={classes}", *shared
            )
            for classes in CLASSES
        }
    write(
        args.out,
        "Time and memory of a MICINet training step with many classes",
        f"""Two modalities of 512 features, width {UNITS}, batch \
{args.batch_size}, AdamW. Median over {args.repetitions} rounds in which the \
models take turns, each for {args.steps} steps in `fit`, after two rounds of \
warm-up; ratios are medians of the ratios within a round. Memory is the \
largest of a process that trains one model for {2 * args.steps} steps, with \
all that the backend needs for itself.""",
        table(times, memory),
        args,
    )


if __name__ == "__main__":
    main()
