"""Time of a training step of the balanced-learning methods.

    python examples/benchmarks/balance_step.py

Each backend runs in a process of its own; the models of one backend take
turns within it, and ratios are medians over the rounds.
"""

import statistics
import sys
from pathlib import Path
from typing import Any

from _harness import interleave
from _harness import markdown
from _harness import milliseconds_a_step
from _harness import parser
from _harness import report
from _harness import run_worker
from _harness import write

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

CLASSES = 10
SHAPES = {"audio": (32, 32), "image": (12, 12, 1)}
# Model -> the largest ratio to joint training that is aimed at.
AIMS = {
    "joint": None,
    "identity modulation": 1.02,
    "OGM": 1.05,
    "joint + unimodal losses": None,
    "CAL": 1.15,
    "AIM": 2.0,
    "AIM, both losses": 2.0,
}


def build(name: str) -> Any:
    """Return one compiled model; all have the same encoders."""
    import av_encoders
    import keras

    import keras_mmrel
    from keras_mmrel import modulations

    keras.utils.set_random_seed(0)
    encoders = {
        key: av_encoders.three_blocks(key, shape)
        for key, shape in SHAPES.items()
    }
    modulation: Any = "auto"
    if name == "identity modulation":
        modulation = modulations.GradientModulation()
    elif name == "OGM":
        modulation = modulations.OGM()
    if name == "CAL":
        model = keras_mmrel.CAL(encoders, CLASSES)
    elif name.startswith("AIM"):
        model = keras_mmrel.AIM(
            encoders, CLASSES, target_weight=float(name != "AIM"), warmup=0.0
        )
    else:
        gamma = 3.0 if name.endswith("unimodal losses") else 0.0
        model = keras_mmrel.ConcatFusion(
            encoders, CLASSES, modality_loss_weight=gamma
        )
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), modulation=modulation
    )
    return model


def measure(batch_size: int, steps: int, repetitions: int) -> dict:
    """Milliseconds a step of every model, one number a round."""
    import numpy as np

    rng = np.random.default_rng(0)
    count = batch_size * steps
    x = {
        key: rng.normal(size=(count, *shape)).astype("float32")
        for key, shape in SHAPES.items()
    }
    y = rng.integers(0, CLASSES, count)

    def timed(model: Any) -> float:
        return milliseconds_a_step(model, x, y, batch_size)

    models = {name: build(name) for name in AIMS}
    functions = {n: lambda m=m: timed(m) for n, m in models.items()}
    interleave(functions, 2)
    return interleave(functions, repetitions)


def table(results: dict) -> str:
    rows = []
    for backend, times in results.items():
        for name, aim in AIMS.items():
            pairs = zip(times[name], times["joint"], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            verdict = "-"
            if aim is not None:
                word = "met" if ratio <= aim else "MISSED"
                verdict = f"{word}, aim {aim:g}"
            rows.append(
                [
                    backend,
                    name,
                    f"{statistics.median(times[name]):.2f}",
                    f"{ratio:.3f}",
                    verdict,
                ]
            )
    header = ["backend", "model", "ms a step", "of joint", "aim"]
    return markdown(header, rows)


def main() -> None:
    arguments = parser(__doc__, "benchmark_balance_step.md")
    arguments.add_argument("--batch-size", type=int, default=100)
    arguments.add_argument(
        "--steps", type=int, default=20, help="of each model a round"
    )
    arguments.add_argument("--repetitions", type=int, default=15)
    args = arguments.parse_args()
    if args.worker:
        report(measure(args.batch_size, args.steps, args.repetitions))
        return
    results = {}
    for backend in args.backends:
        print(f"{backend} ...", flush=True)
        results[backend] = run_worker(
            __file__,
            backend,
            "--worker=time",
            f"--batch-size={args.batch_size}",
            f"--steps={args.steps}",
            f"--repetitions={args.repetitions}",
        )
    write(
        args.out,
        "Time of a training step of the balanced-learning methods",
        f"""The encoders of AV-digits (`examples/av_encoders.py`): three \
convolutions with batch normalisation for 32 x 32 spectrograms and 12 x 12 \
images, one linear head, SGD with momentum, batch {args.batch_size}. Median \
over {args.repetitions} rounds in which the models take turns, each for \
{args.steps} steps in `fit`, after two rounds of warm-up; ratios are medians \
of the ratios within a round. Settings are the defaults, AIM without its \
warm-up so that its gates are drawn. `CAL` includes its unimodal losses.""",
        table(results),
        args,
    )


if __name__ == "__main__":
    main()
