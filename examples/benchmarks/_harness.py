"""What the benchmarks share: one process a backend, one Markdown file."""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BACKENDS = ("jax", "tensorflow", "torch")
RESULTS = Path(__file__).resolve().parents[1] / "results"


def parser(description: str, out: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every benchmark takes."""
    result = argparse.ArgumentParser(
        description=description.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    result.add_argument(
        "--backends",
        nargs="+",
        choices=BACKENDS,
        default=BACKENDS,
        help="each is measured in a process of its own",
    )
    result.add_argument(
        "--out", type=Path, default=RESULTS / out, help="Markdown file"
    )
    result.add_argument(
        "--remark",
        action="append",
        default=[],
        help="a sentence for the file, such as why an aim is missed",
    )
    result.add_argument("--worker", help=argparse.SUPPRESS)
    return result


def run_worker(script: str, backend: str, *arguments: str) -> Any:
    """Run a script as `--worker` on a backend and return what it `report`s."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    environment["KERAS_BACKEND"] = backend
    done = subprocess.run(
        [sys.executable, script, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"The measurement on {backend} failed: see above.")
    return json.loads(done.stdout.splitlines()[-1])


def report(result: Any) -> None:
    """Hand a worker's result to `run_worker`."""
    print("\n" + json.dumps(result), flush=True)


def interleave(
    functions: dict[str, Callable[[], float]], repetitions: int
) -> dict[str, list[float]]:
    """Call all functions in turn, so that a drift hits all of them alike.

    Every other round runs backwards, so that none always follows another.

    Returns:
        Dict of name -> what each call returned, one a round.
    """
    results: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    for _ in range(repetitions):
        for name in names:
            results[name].append(functions[name]())
        names.reverse()
    return results


def seconds(function: Callable[[], Any]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def milliseconds_a_step(model: Any, x: Any, y: Any, batch_size: int) -> float:
    """Time one epoch of `fit` without what `fit` does round its steps."""
    import keras

    class Stopwatch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            # The logs are numbers: every step is done.
            self.seconds = time.perf_counter() - self.start

    watch = Stopwatch()
    model.fit(
        x,
        y,
        batch_size=batch_size,
        shuffle=False,
        verbose=0,
        callbacks=[watch],
    )
    return 1e3 * watch.seconds / -(-len(y) // batch_size)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return an aligned Markdown table, text left and numbers right."""
    widths = [
        max(map(len, column)) for column in zip(header, *rows, strict=True)
    ]
    numeric = [
        all(row[i][:1].isdigit() for row in rows) for i in range(len(header))
    ]
    rule = [
        "-" * (width - 1) + ":" if right else "-" * width
        for width, right in zip(widths, numeric, strict=True)
    ]
    lines = []
    for cells in (header, rule, *rows):
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)


def write(path: Path, title: str, method: str, body: str, args: Any) -> None:
    """Write the results with what is needed to judge and repeat them."""
    packages = ["keras", *args.backends, "numpy"]
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in packages
    )
    command = " ".join(
        ["python", f"examples/benchmarks/{Path(sys.argv[0]).name}"]
        + [repr(a) if " " in a else a for a in sys.argv[1:]]
    )
    load = os.getloadavg()[0]
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    remarks = "".join(f"\n* {remark}" for remark in args.remark)
    text = f"""# {title}

    {command}

{method}

Python {platform.python_version()}, {versions}; {processor()}, \
{os.cpu_count()} cores; OMP_NUM_THREADS {threads}; load average at the end \
{load:.1f}.

{body}
"""
    if remarks:
        text += f"\n## Remarks\n{remarks}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(text)


def processor() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
