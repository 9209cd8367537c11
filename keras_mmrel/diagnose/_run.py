"""The function that diagnoses data."""

import json
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.benchmark._checks import choice
from keras_mmrel.benchmark._environment import environment
from keras_mmrel.benchmark._whole import write_whole
from keras_mmrel.benchmark._whole import writing
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.contract import Array
from keras_mmrel.contract import as_path
from keras_mmrel.diagnose._experiment import FOLDS
from keras_mmrel.diagnose._experiment import TEST
from keras_mmrel.diagnose._experiment import Experiment
from keras_mmrel.diagnose._leaks import check_leaks
from keras_mmrel.diagnose._page import page
from keras_mmrel.diagnose._plan import make_plan
from keras_mmrel.diagnose._prepare import Prepared
from keras_mmrel.diagnose._prepare import class_numbers
from keras_mmrel.diagnose._prepare import prepare
from keras_mmrel.diagnose._read import read
from keras_mmrel.diagnose._read import table_of
from keras_mmrel.diagnose._recommend import Recommendation
from keras_mmrel.diagnose._recommend import recommend
from keras_mmrel.diagnose._recommend import settings_rows
from keras_mmrel.diagnose._recommend import winners
from keras_mmrel.diagnose._record import make_record
from keras_mmrel.diagnose._rows import CANDIDATES
from keras_mmrel.diagnose._rows import LATE
from keras_mmrel.diagnose._rows import alone
from keras_mmrel.diagnose._rows import candidate
from keras_mmrel.diagnose._rows import make_methods
from keras_mmrel.diagnose._samples import check_samples
from keras_mmrel.diagnose._splits import TEST_FRACTION
from keras_mmrel.diagnose._splits import make_splits
from keras_mmrel.diagnose._values import check_values
from keras_mmrel.diagnose.diagnosis import Diagnosis
from keras_mmrel.diagnose.finding import LEVELS
from keras_mmrel.diagnose.finding import Finding

RUNS, PAGE, RECORD = "runs", "index.html", "diagnosis.json"
# Seeds of what is said of the test part.
SEEDS = (0, 1)
Arrays = tuple[Mapping[str, Array], Array]


def run(
    source: Path | str | Arrays,
    out: Path | str,
    *,
    labels: str | None = None,
    modalities: Mapping[str, str] | None = None,
    groups: str | None = None,
    split: str | None = None,
    ids: str | None = None,
    data: Path | str | None = None,
    methods: Sequence[str] | None = None,
    folds: int | None = None,
    epochs: int | None = None,
    verbose: int = 1,
) -> Diagnosis:
    """Diagnose multimodal data, and recommend a method for them.

    The data are checked: scales, numbers that are none, features that are
    constant, stuck or give the label away, doubles, small classes, rows that
    are marked as missing. Then small models are trained by the benchmark's
    engine: each modality alone, all but each, all together, late fusion with
    and without the range control, and methods for reliable and balanced
    fusion. Folds choose; a fifth of the samples, or the test part that the
    data have, is scored once at the end and chooses nothing.

    The folder gets `index.html`, one self-contained page, `diagnosis.json`,
    and `runs`, the engine's folder: an interrupted diagnosis goes on where it
    stopped. Which numbers decide what is in `keras_mmrel.diagnose.LIMITS`;
    all of them are this library's own choice, as are the rows, the folds and
    the number of epochs.

    Args:
        source: Path of a `.npz` file (an array a modality, and one of
            labels), of a `.csv` or `.tsv` table with a header, or of a
            `.yaml` file with a data set of `keras_mmrel.benchmark`; the name
            of a loader, such as `"multiview_digits"`; or `(x, y)`, a dict of
            arrays, maybe with a `"modality_mask"`, and labels.
        out: Folder of the results.
        labels: Name of the array or column of labels, `"y"` by default.
        modalities: Name -> array of the file, or pattern of the names of
            columns (`{"audio": "a_*"}`); by default all other arrays, and
            for a table what stands before the first `_`, `.`, `:` or `-`.
        groups: Name of an array or column: rows of a group (a patient, a
            recording) are never parted between training and test.
        split: Name of an array or column of `"train"` and `"test"`, or of 0
            and 1, which is for test.
        ids: Name of an array or column of names of the samples.
        data: Folder with the folders of built-in data sets.
        methods: Names of the methods to choose among, by default all; late
            fusion is always one.
        folds: Number of folds of at least 2, `None` for 4, or 3 where
            there are more than 1,000 samples outside of the test part.
        epochs: Number of epochs, `None` for about 160 steps.
        verbose: 0 for no progress.

    Returns:
        A `Diagnosis`.

    Raises:
        ValueError: If the data cannot be read or trained on, or the folder
            holds the diagnosis of others.
        FileNotFoundError: If a file is not there.

    Example:

    >>> try:
    ...     keras_mmrel.diagnose.run("no.npz", "diagnosis")
    ... except FileNotFoundError as error:
    ...     print(str(error).partition(", or a loader")[0])
    `source` must be a .npz, .csv, .tsv or .yaml file
    """
    folder = as_path("out", out)
    chosen = _methods(methods)
    if folds is not None:
        folds = Integer(2)("folds", folds)
    if epochs is not None:
        epochs = Integer(1)("epochs", epochs)
    Either(Flag(), 0, 1, 2)("verbose", verbose)
    if isinstance(source, tuple):
        table = table_of(source)
    else:
        table = read(
            source, labels=labels, modalities=modalities, groups=groups,
            split=split, ids=ids, data=data,
        )  # fmt: skip
    if len(table.x) < 2:
        raise ValueError(
            "`modalities` must be two or more, as their fusion is diagnosed. "
            f"Received: {list(table.x)}"
        )
    tell = print if verbose else _silent
    tell(f"1/4 checks of {table.samples} samples")
    y, _ = class_numbers(table.y)
    findings = [
        *check_leaks(table, y),
        *check_samples(table, y),
        *check_values(table),
    ]
    prepared, left_out = prepare(table, y)
    findings += left_out
    experiment = _experiment(prepared, folder, folds, epochs, verbose)
    found = _train(experiment, chosen, tell)
    record, more = make_record(table, experiment, found, chosen)
    findings = _sorted([*findings, *more])
    record = _whole(record, findings, experiment)
    with writing(folder):
        text = json.dumps(record, indent=1, allow_nan=False) + "\n"
        write_whole(folder / RECORD, text.encode())
        write_whole(folder / PAGE, page(record).encode())
    return Diagnosis(record, tuple(findings), folder / PAGE)


def _silent(text: str) -> None:
    pass


def _methods(methods: Sequence[str] | None) -> list[str]:
    if methods is None:
        return list(CANDIDATES)
    if isinstance(methods, str) or not methods:
        raise ValueError(
            f"`methods` must list some of {list(CANDIDATES)}. Received: "
            f"methods={methods!r}"
        )
    wanted = {choice("methods", name, CANDIDATES) for name in methods}
    return [name for name in CANDIDATES if name in wanted | {LATE}]


def _experiment(
    data: Prepared,
    folder: Path,
    folds: int | None,
    epochs: int | None,
    verbose: int,
) -> Experiment:
    count = len(data.y) * (1 - TEST_FRACTION)
    if data.test is not None:
        count = int((~data.test).sum())
    plan = make_plan(int(count), folds, epochs)
    splits = make_splits(data, plan.folds)
    return Experiment(data, splits, plan, folder / RUNS, verbose)


def _train(
    experiment: Experiment, candidates: list[str], tell: Any
) -> Recommendation:
    """Train all rows; what the folds choose is trained for the test part."""
    names = experiment.data.modalities
    tell(f"2/4 all rows on {experiment.plan.text}")
    experiment.train(FOLDS, make_methods(names, candidates))
    clean, corrupted = winners(experiment, candidates)
    tell("3/4 other learning rates of what is recommended")
    experiment.train(FOLDS, settings_rows(experiment, clean.method))
    found = recommend(experiment, clean, corrupted)
    tell("4/4 the test part")
    rows = make_methods(names, [])
    experiment.train(TEST, {alone(n): rows[alone(n)] for n in names})
    finals = {row: candidate(*made) for row, made in found.finals.items()}
    experiment.train(TEST, {LATE: candidate(LATE), **finals}, SEEDS)
    return found


def _sorted(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: LEVELS.index(f.level))


def _whole(
    record: dict[str, Any],
    findings: Sequence[Finding],
    experiment: Experiment,
) -> dict[str, Any]:
    made = environment()
    versions = {k: v for k, v in made.items() if k not in ("kind", "id")}
    seconds = [run.seconds for run in experiment.store.runs()]
    return {
        **record,
        "findings": [f.to_dict() for f in findings],
        "environment": versions,
        "seconds": round(float(np.sum(seconds)), 1),
    }
