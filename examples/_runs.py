"""Many runs that can be killed, and tables of what they brought.

Shared by the comparisons; not a script of its own. Every finished run is a
line of a JSON-lines file.
"""

import json
import time
from pathlib import Path

import keras
import numpy as np


def run_all(path: Path, splits, seeds, rows, run, shown, **settings):
    """Run what `path` (JSON lines) does not hold yet; each run is kept.

    Args:
        path: Results so far; a line a finished run, so that a killed command
            goes on where it stopped.
        splits: Dict of split name -> function of the seed that returns
            `(train, test)`.
        seeds: Iterable of integers.
        rows: Names of rows.
        run: Function of `(row, train, test, seed, **settings)` that returns
            a flat dict of scores.
        shown: Names of the scores that the progress shows.
        **settings: Arguments of `run`, kept with every record.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    records = read(path)
    for record in records:
        if record["settings"] != settings:
            raise SystemExit(
                f"{path} holds runs with other settings; choose another "
                f"--out. Expected: {settings}. "
                f"Received: {record['settings']}"
            )
    with path.open("a") as file:
        # A line cut off by a kill must not spoil the next one.
        if path.read_text()[-1:] not in ("", "\n"):
            file.write("\n")
    jobs = [(s, seed, row) for s in splits for seed in seeds for row in rows]
    done = {job_of(record) for record in records}
    todo = [job for job in jobs if job not in done]
    print(f"{len(jobs) - len(todo)} of {len(jobs)} runs are in {path}")
    start = time.perf_counter()
    for number, (split, seed, row) in enumerate(todo, 1):
        scores = run(row, *splits[split](seed), seed, **settings)
        job = {"split": split, "seed": seed, "row": row}
        with path.open("a") as file:
            file.write(
                json.dumps({**job, **scores, "settings": settings}) + "\n"
            )
        keras.utils.clear_session()
        left = (time.perf_counter() - start) / number * (len(todo) - number)
        print(
            f"[{number}/{len(todo)}] {split}, seed {seed}, {row}: "
            + ", ".join(f"{name} {scores[name]:.1f}" for name in shown)
            + "   "
            f"({left / 60:.0f} min left)",
            flush=True,
        )


def job_of(record):
    return record["split"], record["seed"], record["row"]


def read(path: Path):
    """Finished runs; a line cut off by a kill is left out."""
    records = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                print(f"{path}: an incomplete line is left out")
    return records


def table(records, split, rows, columns):
    """Markdown table of one split."""
    records = [r for r in records if r["split"] == split]
    columns = [c for c in columns if any(c in r for r in records)]
    lines = [
        "| " + " | ".join(["", "n", *columns]) + " |",
        "|" + "---|" * (len(columns) + 2),
    ]
    for row in rows:
        runs = [r for r in records if r["row"] == row]
        if not runs:
            continue
        cells = []
        for column in columns:
            values = np.array([r[column] for r in runs if column in r])
            digits = 1 if values.size and abs(values.mean()) > 6 else 3
            cells.append(
                f"{values.mean():.{digits}f} ± "
                f"{values.std(ddof=1) if values.size > 1 else 0:.{digits}f}"
                if values.size
                else "–"
            )
        lines.append("| " + " | ".join([row, str(len(runs)), *cells]) + " |")
    return "\n".join(lines)


def differences(records, split, rows, columns, reference):
    """Paired differences of every row to `reference`, with standard errors."""
    records = {job_of(r): r for r in records if r["split"] == split}
    seeds = sorted({seed for _, seed, _ in records})
    lines = [
        f"| paired difference to {reference} | " + " | ".join(columns) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for row in rows:
        pairs = [
            (records[split, s, row], records[split, s, reference])
            for s in seeds
            if (split, s, row) in records and (split, s, reference) in records
        ]
        if row == reference or len(pairs) < 2:
            continue
        cells = []
        for column in columns:
            values = np.array(
                [a[column] - b[column] for a, b in pairs if column in a]
            )
            if not values.size:
                cells.append("–")
                continue
            error = values.std(ddof=1) / np.sqrt(len(values))
            # As many digits as in the table of the values themselves.
            size = np.mean([abs(a[column]) for a, _ in pairs if column in a])
            digits = 1 if size > 6 else 3
            cells.append(f"{values.mean():+.{digits}f} ± {error:.{digits}f}")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
