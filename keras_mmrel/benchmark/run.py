import contextlib
import itertools
import json
import os
import platform
import signal
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mmrel.benchmark._config import Config
from keras_mmrel.benchmark._config import load_config
from keras_mmrel.benchmark._data import Dataset
from keras_mmrel.benchmark._data import load_dataset
from keras_mmrel.benchmark._data import stratified
from keras_mmrel.benchmark._store import Store
from keras_mmrel.benchmark._store import finished
from keras_mmrel.benchmark._store import job
from keras_mmrel.benchmark._store import pack
from keras_mmrel.benchmark._train import inner_scores
from keras_mmrel.benchmark._train import train
from keras_mmrel.evaluation import evaluate_robustness


def run(
    config: Any,
    out: Any,
    *,
    data: Any = None,
    shard: tuple[int, int] = (1, 1),
    verbose: int = 1,
) -> None:
    """Train and score every method on every data set, regime and seed.

    Each run trains a model for the whole number of epochs and scores it once
    on the test part, clean and corrupted. Settings with a grid are chosen
    before, on inner validation parts of the training part: by the mean
    accuracy, then by the likelihood. With the published split that happens
    once for each method, data set and regime, with resampled splits once for
    each seed too.

    Sections of the config; only the first two are needed:

    - `datasets`: names or name -> `source` (`multiview_digits`, `rosmap`,
      `brca`, `av_digits`, `npz`, `csv`) and its options: `path`; the
      `modalities`, names of arrays or name -> CSV file; the `labels`, an
      array's name or a CSV file; `header`. `split` is `published` or
      `resampled` (with a `test_share`), `scale` is `minmax`, each feature to
      [0, 1] on the training part, or `none`, and `training` overrides the
      section of that name.
    - `methods`: names or name -> `model`, a class of `keras_mmrel.models`;
      its `options`; the `encoder` of vectors, options of `MLPEncoder`; a
      `modulation`; `inputs`, which are `raw`, `standardized` or `clipped` to
      three standard deviations; `training` and `tuning` of its own.
    - `regimes`: name -> options of `layers.CorruptionAugmentation`, none for
      clean training.
    - `seeds`: a number, or a list.
    - `training`: `epochs`, `batch_size` (a number or `full`),
      `learning_rate`, `weight_decay`, `optimizer` (`adamw`, `adam`, `sgd`),
      `schedule` (`cosine`, `constant`).
    - `tuning`: the `grid`, setting -> values, and `options` -> option ->
      values; the `share` of the training part that validates, and `repeats`.
    - `evaluation`: `corruptions`, names of `evaluation.NOISE_PROTOCOLS`;
      `severities`, `seeds`, `bins` and `batch_size` as in
      `evaluation.evaluate_robustness`.
    - `baseline`: the method of the paired tests; `title`: of the page.

    Every finished run is a line of `runs.jsonl` in the folder at once. A
    command that was killed goes on where it stopped; a config that adds
    methods, data sets, regimes or seeds adds their runs.

    Args:
        config: Path of a YAML file.
        out: Folder of the results.
        data: Folder with the folders of built-in data sets (`rosmap`, `brca`,
            `fsdd`) that are not to be downloaded.
        shard: `(i, n)`: this process does the i-th of n parts of the work;
            all of them may run at once with the same folder.
        verbose: 0 for no progress bar.

    Raises:
        ValueError: If the config is wrong, or the folder holds runs of
            another config or of other data.
        FileNotFoundError: If a file is not there.

    Example:

    >>> try:
    ...     keras_mmrel.benchmark.run("no.yaml", "results")
    ... except FileNotFoundError as error:
    ...     print(error)
    `config` must be a YAML file. Received: config='no.yaml', which is none
    """
    first = _first(shard)
    checked = load_config(config)
    datasets = {
        name: load_dataset(
            name, entry, checked.folder, None if data is None else Path(data)
        )
        for name, entry in checked.datasets.items()
    }
    _check_splits(checked, datasets)
    store = Store(out)
    records = store.read()
    _check_data(records, datasets, store)
    store.open(checked.to_dict())
    environment = _environment()
    if environment["id"] not in {r.get("id") for r in records}:
        store.add(environment)
    groups = list(itertools.product(datasets, checked.regimes, checked.methods))
    mine = groups[first :: shard[1]]
    jobs = [(seed, *group) for seed in checked.seeds for group in mine]
    done = {job(r) for r in finished(records)}
    todo = [one for one in jobs if one not in done]
    if verbose:
        print(f"{len(jobs) - len(todo)} of {len(jobs)} runs are in {out}")
    bar = keras.utils.Progbar(len(todo), verbose=verbose, unit_name="run")
    with _interruptions() as pressed:
        for seed, name, regime, method in todo:
            record = _one_run(
                checked, datasets[name], regime, method, seed, store, records
            )
            store.add({**record, "environment": environment["id"]})
            keras.utils.clear_session()
            bar.add(1)
            if pressed:
                raise KeyboardInterrupt


@contextlib.contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Remember Ctrl-C, which Python loses if it hits a finaliser."""
    pressed: list[int] = []

    def press(number: int, frame: Any) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is not signal.default_int_handler:
        yield pressed
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _first(shard: Any) -> int:
    good = len(tuple(shard)) == 2 and all(type(n) is int for n in shard)
    if not good or not 1 <= shard[0] <= shard[1]:
        raise ValueError(
            "`shard` must be (i, n) with 1 <= i <= n. Received: "
            f"shard={shard!r}"
        )
    return shard[0] - 1


def _one_run(
    config: Config,
    dataset: Dataset,
    regime: str,
    method: str,
    seed: int,
    store: Store,
    records: list[dict],
) -> dict:
    """Choose the settings, train, score, and return the record."""
    part, (x_test, y_test) = dataset.parts(seed)
    entry, augmentation = config.methods[method], config.regimes[regime]
    base = {
        **config.training,
        **config.datasets[dataset.name]["training"],
        **entry["training"],
    }
    tuning = entry.get("tuning", config.tuning)
    key = {
        "kind": "tuning",
        "dataset": dataset.name,
        "regime": regime,
        "method": method,
        "split": "published" if dataset.split == "published" else seed,
    }
    scores = []
    grid = candidates(tuning["grid"])
    for candidate in grid if len(grid) > 1 else []:
        known = [
            r
            for r in records
            if {k: r.get(k) for k in key} == key and r["settings"] == candidate
        ]
        if not known:
            inner = [
                inner_scores(
                    entry,
                    augmentation,
                    {**base, **candidate},
                    part,
                    tuning["share"],
                    inner_seed(dataset, seed, repeat),
                )
                for repeat in range(tuning["repeats"])
            ]
            found = {
                name: _finite(float(np.mean([i[name] for i in inner])))
                for name in ("accuracy", "nll")
            }
            known = [
                {
                    **key,
                    "settings": candidate,
                    "data": dataset.fingerprint,
                    **found,
                }
            ]
            store.add(known[0])
            records.append(known[0])
        scores.append(known[0])
    chosen = choose(scores) if scores else grid[0]
    start = time.perf_counter()
    evaluation = config.evaluation
    predict = train(
        entry,
        augmentation,
        {**base, **chosen},
        part,
        seed,
        evaluation["batch_size"],
    )
    seconds = time.perf_counter() - start
    report = evaluate_robustness(
        predict,
        x_test,
        y_test,
        evaluation["corruptions"],
        evaluation["severities"],
        corruption_seeds(seed, evaluation["seeds"]),
        output="logits",
        bins=evaluation["bins"],
        verbose=0,
    )
    return {
        "kind": "run",
        "dataset": dataset.name,
        "regime": regime,
        "method": method,
        "seed": seed,
        "settings": chosen,
        "data": dataset.fingerprint,
        "split": dataset.split,
        "training_samples": len(part[1]),
        "seconds": round(seconds, 1),
        "scores": pack(report.scores),
    }


def corruption_seeds(seed: int, count: int) -> list[int]:
    """Each run draws its corruptions anew, the same for every method."""
    return [1000 * seed + index for index in range(count)]


def inner_seed(dataset: Dataset, seed: int, repeat: int) -> int:
    """Seed of an inner split; one published split has the same ones."""
    first = 0 if dataset.split == "published" else seed
    return 1000 * first + repeat


def candidates(grid: dict) -> list[dict]:
    """All combinations of a grid; its `options` are a grid of their own."""
    plain = {key: values for key, values in grid.items() if key != "options"}
    options = grid.get("options", {})
    made = []
    for values in itertools.product(*plain.values(), *options.values()):
        setting = dict(zip(plain, values[: len(plain)], strict=True))
        if options:
            chosen = values[len(plain) :]
            setting["options"] = dict(zip(options, chosen, strict=True))
        made.append(setting)
    return made


def choose(scores: list[dict]) -> dict:
    """The settings of the best accuracy, of these the best likelihood.

    Without a likelihood there were NaN predictions: these come last.
    """

    def rank(record: dict) -> tuple:
        nll = record["nll"]
        broken = nll is None
        return not broken, record["accuracy"], 0.0 if broken else -nll

    return max(scores, key=rank)["settings"]


def _finite(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None


def _check_splits(config: Config, datasets: dict[str, Dataset]) -> None:
    """Find a class that is too small for a split before the first run."""
    grids = [m.get("tuning", config.tuning) for m in config.methods.values()]
    tuned = [t for t in grids if len(candidates(t["grid"])) > 1]
    inner = sorted(
        {(t["share"], r) for t in tuned for r in range(t["repeats"])}
    )
    for dataset, seed in itertools.product(datasets.values(), config.seeds):
        y = dataset.y[dataset.rows(seed)[0]]
        for share, repeat in inner:
            chosen = inner_seed(dataset, seed, repeat)
            stratified(y, share, chosen, "tuning.share")


def _check_data(
    records: list[dict], datasets: dict[str, Dataset], store: Store
) -> None:
    for record in records:
        dataset = datasets.get(record.get("dataset", ""))
        if dataset is None or "data" not in record:
            continue
        if record["data"] != dataset.fingerprint:
            raise ValueError(
                f"`out` must be a folder of runs on these data; {store.folder} "
                f"holds runs on other data of '{dataset.name}'. Received: "
                f"data with the checksum {dataset.fingerprint}, not "
                f"{record['data']}"
            )


def _environment() -> dict:
    backend = keras.config.backend()
    package = sys.modules[__name__.partition(".")[0]]
    environment = {
        "python": platform.python_version(),
        "keras_mmrel": getattr(package, "__version__", "unknown"),
        "source": _source_checksum(),
        "keras": keras.__version__,
        "backend": backend,
        backend: _version(backend),
        "numpy": np.__version__,
        "scikit-learn": _version("scikit-learn"),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }
    crc = zlib.crc32(json.dumps(environment).encode())
    return {"kind": "environment", "id": f"{crc:08x}", **environment}


def _source_checksum() -> str:
    """Changes with any line of the library."""
    crc = 0
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        crc = zlib.crc32(path.relative_to(root).as_posix().encode(), crc)
        crc = zlib.crc32(path.read_bytes(), crc)
    return f"{crc:08x}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
