"""Time and memory of a training step against a plain Keras model.

    python examples/benchmarks/train_step.py

Each backend runs in a process of its own; the models of one backend take
turns within it, and ratios are medians over the rounds.
"""

import resource
import statistics
from typing import Any

from _harness import interleave
from _harness import markdown
from _harness import milliseconds_a_step
from _harness import parser
from _harness import report
from _harness import run_worker
from _harness import write

CLASSES = 10
MODALITIES = {"a": 256, "b": 256, "c": 256}
PLAIN = "plain Keras"
CONCAT = "ConcatFusion"
UPSTREAM = "ConcatFusion, step of keras.Model"
QADM = "QADMNet"
ENCODED = "QADMNet, same encoders"
MICI = "MICINet"
# Model -> (what it is compared with, the largest ratio that is aimed at).
AIMS = {
    CONCAT: (UPSTREAM, 1.02),
    QADM: (CONCAT, 2.0),
    ENCODED: (CONCAT, 2.0),
    MICI: (CONCAT, 3.0),
}


def build(name: str) -> Any:
    """Return one compiled model; all have the same optimizer and loss."""
    import keras

    import keras_mmrel

    keras.utils.set_random_seed(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    settings = {"loss": loss, "metrics": ["accuracy"]}
    optimizer = keras.optimizers.AdamW(1e-3)
    shapes = {key: (size,) for key, size in MODALITIES.items()}
    encoders = {
        key: keras_mmrel.encoders.MLPEncoder(name=f"encoder_{key}")
        for key in MODALITIES
    }
    if name == PLAIN:
        inputs = {k: keras.Input(s, name=k) for k, s in shapes.items()}
        features = [encoders[k](inputs[k]) for k in inputs]
        joint = keras.layers.Concatenate()(features)
        model = keras.Model(inputs, keras.layers.Dense(CLASSES)(joint))
    elif name == CONCAT:
        model = keras_mmrel.ConcatFusion(shapes, CLASSES)
    elif name == UPSTREAM:

        class Upstream(keras_mmrel.ConcatFusion):
            train_step = keras.Model.train_step

        model = Upstream(shapes, CLASSES)
    elif name == MICI:
        model = keras_mmrel.MICINet(shapes, CLASSES)
    elif name == QADM:
        model = keras_mmrel.QADMNet(shapes, CLASSES)
    else:
        for key, encoder in encoders.items():
            encoder.build((None, *shapes[key]))
        model = keras_mmrel.QADMNet(encoders, CLASSES)
    model.compile(optimizer, **settings)
    return model


def data(samples: int) -> tuple:
    import numpy as np

    rng = np.random.default_rng(0)
    x = {
        key: rng.uniform(size=(samples, size)).astype("float32")
        for key, size in MODALITIES.items()
    }
    return x, rng.integers(0, CLASSES, samples).astype("int32")


def measure_time(batch_size: int, steps: int, repetitions: int) -> dict:
    """Milliseconds a step of every model, one number a round."""
    x, y = data(batch_size * steps)

    def timed(model: Any) -> float:
        return milliseconds_a_step(model, x, y, batch_size)

    models = {n: build(n) for n in (PLAIN, *AIMS, UPSTREAM)}
    functions = {n: lambda m=m: timed(m) for n, m in models.items()}
    interleave(functions, 2)
    return interleave(functions, repetitions)


def measure_memory(name: str, batch_size: int) -> float:
    """Megabytes by which training a model raises the process's peak.

    Two small steps of the plain model before it pay for what the framework
    itself loads and keeps.
    """
    x, y = data(8)
    build(PLAIN).fit(x, y, batch_size=4, verbose=0)
    x, y = data(3 * batch_size)
    before = peak()
    build(name).fit(x, y, batch_size=batch_size, verbose=0)
    return peak() - before


def peak() -> float:
    """Largest resident size of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ratio(times: dict, name: str, base: str) -> float:
    """Median over the rounds of the ratio within a round."""
    pairs = zip(times[name], times[base], strict=True)
    return statistics.median(a / b for a, b in pairs)


def table(results: dict) -> str:
    rows = []
    for backend, (times, memory) in results.items():
        for name in times:
            aim = "-"
            if name in AIMS:
                base, limit = AIMS[name]
                found = ratio(times, name, base)
                verdict = "met" if found <= limit else "MISSED"
                aim = f"{verdict}: {found:.3f} of {base}, aim {limit:g}"
            rows.append(
                [
                    backend,
                    name,
                    f"{statistics.median(times[name]):.2f}",
                    f"{ratio(times, name, PLAIN):.2f}",
                    f"{memory[name]:.0f}",
                    f"{memory[name] / memory[PLAIN]:.2f}",
                    aim,
                ]
            )
    header = [
        "backend",
        "model",
        "ms a step",
        "of plain",
        "peak, MB",
        "of plain",
        "aim",
    ]
    return markdown(header, rows)


def main() -> None:
    arguments = parser(__doc__, "benchmark_train_step.md")
    arguments.add_argument("--batch-size", type=int, default=128)
    arguments.add_argument(
        "--steps", type=int, default=50, help="of each model a round"
    )
    arguments.add_argument("--repetitions", type=int, default=30)
    arguments.add_argument("--memory-batch-size", type=int, default=4096)
    args = arguments.parse_args()
    if args.worker == "time":
        report(measure_time(args.batch_size, args.steps, args.repetitions))
        return
    if args.worker:
        report(measure_memory(args.worker, args.memory_batch_size))
        return
    results = {}
    for backend in args.backends:
        print(f"{backend}: time ...", flush=True)
        sizes = [
            f"--batch-size={args.batch_size}",
            f"--steps={args.steps}",
            f"--repetitions={args.repetitions}",
        ]
        times = run_worker(__file__, backend, "--worker=time", *sizes)
        memory = {}
        for name in times:
            print(f"{backend}: memory of {name} ...", flush=True)
            memory[name] = run_worker(
                __file__,
                backend,
                f"--worker={name}",
                f"--memory-batch-size={args.memory_batch_size}",
            )
        results[backend] = times, memory
    sizes = " + ".join(map(str, MODALITIES.values()))
    write(
        args.out,
        "Time and memory of a training step",
        f"""Three modalities of {sizes} features, {CLASSES} classes, one dense \
encoder of 64 units each, AdamW. `QADMNet` as it is works on the inputs; \
"same encoders" gives it those of the others. `MICINet`, too, works on the \
inputs, in the second phase of its training.

*Time*: median over {args.repetitions} rounds in which the models take turns, \
each for {args.steps} steps of batch {args.batch_size} in `fit`, after two \
rounds of warm-up. Ratios are medians of the ratios within a round, so that \
the load of the machine cancels. *Peak*: by how many megabytes building the \
model and three steps of batch {args.memory_batch_size} raise the peak \
resident size of a process in which the plain model had run two small steps; \
it includes compilation.""",
        table(results),
        args,
    )


if __name__ == "__main__":
    main()
