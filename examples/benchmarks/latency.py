"""Time of one sample through every model, as it is and exported.

    python examples/benchmarks/latency.py

Nobody waits for a batch where one patient or one frame comes at a time. What
a model costs then is mostly the number of its operations.
"""

import statistics
import time
import warnings
from typing import Any

import exports
from _harness import interleave
from _harness import markdown
from _harness import parser
from _harness import report
from _harness import run_worker
from _harness import write

SHAPES = {"a": (64,), "b": (32,), "c": (16,)}
# Enough that new samples look usual to what judges inputs.
TRAINED = 960
YARDSTICK = "ConcatFusion"
AIMED = ("QADMNet", "MICINet")
AIM = 2.0


def measure(samples: int) -> dict[str, list[float]]:
    """Milliseconds of each model for each of the samples, in turns."""
    models, data = {}, {}
    for name in exports.names():
        models[name], data = exports.trained(name, SHAPES, TRAINED)
    rows = [
        {key: value[i % 20 : i % 20 + 1] for key, value in data.items()}
        for i in range(samples)
    ]
    for model in models.values():
        model.predict_on_batch(rows[0])
    turn = dict.fromkeys(models, 0)

    def timed(name: str, model: Any) -> float:
        turn[name] += 1
        row = rows[turn[name] - 1]
        start = time.process_time()
        model.predict_on_batch(row)
        return 1e3 * (time.process_time() - start)

    return interleave(
        {
            name: (lambda n=name, m=model: timed(n, m))
            for name, model in models.items()
        },
        samples,
    )


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Medians, and the median ratio to the yardstick within a round."""
    rows = []
    for name in next(iter(results.values())):
        cells = [name]
        for times in results.values():
            ratio = statistics.median(
                own / other
                for own, other in zip(
                    times[name], times[YARDSTICK], strict=True
                )
            )
            missed = name in AIMED and ratio > AIM
            cells += [
                f"{statistics.median(times[name]):.2f}",
                f"{ratio:.2f}{' MISSED' * missed}",
            ]
        rows.append(cells)
    heads = [h for b in results for h in (f"{b}, ms", f"{b}, ratio")]
    return markdown(["model", *heads], rows)


def main() -> None:
    arguments = parser(__doc__, "latency.md")
    arguments.add_argument("--samples", type=int, default=100)
    args = arguments.parse_args()
    if args.worker:
        warnings.simplefilter("ignore")
        report(measure(int(args.worker)))
        return
    results = {
        backend: run_worker(__file__, backend, f"--worker={args.samples}")
        for backend in args.backends
    }
    write(
        args.out,
        "Time of one sample",
        f"""`predict_on_batch` with one sample of three vectors (64, 32 and 16 \
numbers), new ones of the same distribution as the {TRAINED} samples that two \
steps of training had. All models of a backend run in one process and take \
turns, for {args.samples} rounds; a ratio is the median of the ratios to \
{YARDSTICK} within a round. Time is the processor's for the process, which \
other programs hardly change. Exported models are in [exports.md](exports.md).

Aim: {" and ".join(AIMED)} at most {AIM:g} times {YARDSTICK}.""",
        table(results),
        args,
    )


if __name__ == "__main__":
    main()
