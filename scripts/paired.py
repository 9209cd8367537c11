"""Difference of two rows on the same resplits, of one report or of two.

    python scripts/paired.py FOLDER ROW FOLDER ROW [SCORE]

A folder holds the `runs.jsonl` of a report. What is printed is the first row
minus the second one, with errors as in reports (Nadeau and Bengio), for each
corruption, and the means of those inside and outside the range of the data.
Times 100, except for scores that are no fractions.
"""

import json
import math
import pathlib
import sys

import numpy as np

from keras_mmrel.benchmark._statistics import standard_error


def runs_of(folder, method, score):
    """Return (data set, regime) -> seed -> run, with `columns` of a score."""
    found = {}
    for line in (pathlib.Path(folder) / "runs.jsonl").read_text().splitlines():
        run = json.loads(line)
        if run["kind"] != "run" or run["method"] != method:
            continue
        if run["split"] != "resampled" or run["fold"] is not None:
            sys.exit("The error printed is that of resplits.")
        scores, columns = run["scores"], {}
        for name, inside, value in zip(
            scores["corruption"],
            scores["in_range"],
            scores.get(score) or [None] * len(scores["corruption"]),
            strict=True,
        ):
            if value is not None:
                group = "mean, inside" if inside else "mean, outside"
                columns.setdefault((group, name), []).append(value)
        run["columns"] = columns
        found.setdefault((run["dataset"], run["regime"]), {})[run["seed"]] = run
    if not found:
        sys.exit(f"{folder} has no runs of {method!r}.")
    return found


def differences(first, second):
    """Return column -> one difference a seed that both have."""
    rows = {}
    for seed in sorted(set(first) & set(second)):
        a, b = first[seed], second[seed]
        if a["data"] != b["data"]:
            sys.exit("The two rows saw other data.")
        groups = {}
        for key in a["columns"]:
            if key in b["columns"]:
                group, name = key
                pair = np.subtract(a["columns"][key], b["columns"][key]).mean()
                rows.setdefault(name, []).append(pair)
                if name != "clean":
                    groups.setdefault(group, []).append(pair)
        for group, values in groups.items():
            rows.setdefault(group, []).append(np.mean(values))
    return rows


def main(folder, row, other_folder, other_row, score="accuracy"):
    """Print the table."""
    first = runs_of(folder, row, score)
    second = runs_of(other_folder, other_row, score)
    scale = 1.0 if score in ("nll", "brier", "aurc", "depth") else 100.0
    table = {}
    for block in first:
        run = next(iter(first[block].values()))
        ratio = run["scores"]["samples"][0] / run["training_samples"]
        for name, values in differences(
            first[block], second.get(block, {})
        ).items():
            error = standard_error(np.array(values), ratio)
            table.setdefault(name, {})[" ".join(block)] = (
                scale * np.mean(values),
                scale * error,
                len(values),
            )
    blocks = list(next(iter(table.values())))
    counts = [table[next(iter(table))][block][2] for block in blocks]
    names = ", ".join(
        f"{block} ({count} runs)"
        for block, count in zip(blocks, counts, strict=True)
    )
    print(f"{score}: {row} minus {other_row}; {names}")
    for name, cells in table.items():
        means = [cells[block][0] for block in cells]
        errors = [cells[block][1] for block in cells]
        together = math.hypot(*errors) / len(errors)
        cells = [
            f"{m:+.1f} ± {e:.1f}" for m, e in zip(means, errors, strict=True)
        ]
        cells.append(f"all: {np.mean(means):+.2f} ± {together:.2f}")
        print(f"{name:>20}: " + " | ".join(cells))


if __name__ == "__main__":
    main(*sys.argv[1:])
