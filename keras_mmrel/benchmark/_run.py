"""Make the runs of a comparison that a folder does not hold yet."""

import contextlib
import dataclasses
import gc
import json
import signal
import threading
import time
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np

from keras_mmrel.benchmark._candidate import Candidate
from keras_mmrel.benchmark._checks import takes
from keras_mmrel.benchmark._environment import environment
from keras_mmrel.benchmark._job import Job
from keras_mmrel.benchmark._kept import Keeper
from keras_mmrel.benchmark._kept import Kept
from keras_mmrel.benchmark._records import Run
from keras_mmrel.benchmark._records import Tried
from keras_mmrel.benchmark._rescore import add_scores
from keras_mmrel.benchmark._rescore import added_scores
from keras_mmrel.benchmark._samples import Part
from keras_mmrel.benchmark._samples import Samples
from keras_mmrel.benchmark._samples import stratified
from keras_mmrel.benchmark._store import PUBLISHED
from keras_mmrel.benchmark._store import RESAMPLED
from keras_mmrel.benchmark._store import Store
from keras_mmrel.benchmark._store import pack
from keras_mmrel.benchmark._train import Trained
from keras_mmrel.benchmark._train import inner_scores
from keras_mmrel.benchmark._train import of_modalities
from keras_mmrel.benchmark._train import train
from keras_mmrel.benchmark.comparison import Comparison
from keras_mmrel.benchmark.evaluation import Evaluation
from keras_mmrel.benchmark.method import Method
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import PROBABILITIES
from keras_mmrel.contract import Array
from keras_mmrel.contract import as_path
from keras_mmrel.evaluation import evaluate_robustness

# Seconds until work that somebody else does is looked at again.
WAIT = 0.5


def run(
    config: Path | str,
    out: Path | str,
    *,
    data: Path | str | None = None,
    datasets: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    regimes: Sequence[str] | None = None,
    seeds: int | Sequence[int] | None = None,
    shard: tuple[int, int] = (1, 1),
    verbose: int = 1,
) -> None:
    """Run the comparison of a YAML file.

    The sections of the file are the arguments of
    `keras_mmrel.benchmark.Comparison`, their entries the arguments of
    `Dataset`, `Method`, `Regime`, `Training`, `Tuning` and `Evaluation`. The
    options of a data set's source, and of a regime's augmentation, stand
    beside the other entries.

    Args:
        config: Path of a YAML file.
        out: Folder of the results.
        data: Folder with the folders of built-in data sets (`rosmap`, `brca`,
            `breast_tcga`, `cub`, `wiki`, `fsdd`) that are not to be
            downloaded, or cannot be.
        datasets: Names of the file's data sets to run, or `None` for all.
        methods: The same of its methods; a later command may add the others.
        regimes: The same of its regimes.
        seeds: Instead of the file's, or `None`.
        shard: `(i, n)`: this process does only the i-th of n parts. Without
            it, processes that run at once on one folder share the work.
        verbose: 0 for no progress bar, or 1 or 2, as Keras has them.

    Raises:
        ValueError: If the file is wrong, or the folder holds runs of another
            comparison or of other data.
        FileNotFoundError: If a file is not there.

    Example:

    >>> try:
    ...     keras_mmrel.benchmark.run("no.yaml", "results")
    ... except FileNotFoundError as error:
    ...     print(error)
    `config` must be a YAML file. Received: config='no.yaml', which is none
    """
    _first(shard)
    folder = as_path("out", out)
    comparison = Comparison.from_yaml(
        config,
        data,
        datasets=datasets,
        methods=methods,
        regimes=regimes,
        seeds=seeds,
    )
    run_comparison(comparison, folder, shard, verbose)


def run_comparison(
    comparison: Comparison, folder: Path, shard: Any, verbose: int
) -> None:
    """Make the runs that the folder does not hold; see `Comparison.run`."""
    first = _first(shard)
    Either(Flag(), 0, 1, 2)("verbose", verbose)
    samples = {
        (name, fold): dataset.load(
            name, fold, comparison.folder, comparison.data
        )
        for name, dataset in comparison.datasets.items()
        for fold in (dataset.folds or (None,))
    }
    for job in comparison.jobs():
        of_modalities(
            samples[job.dataset, job.fold].x, comparison.methods[job.method]
        )
    _check_splits(comparison, samples)
    store = Store(folder)
    _check_data(store, samples)
    made_with = environment()
    evaluation = store.joined(comparison).evaluation
    added = added_scores(store, evaluation, made_with["id"])
    store.open(comparison)
    if made_with["id"] not in store.environments():
        store.add(made_with)
    add_scores(store, added, verbose)
    runner = _Runner(comparison, evaluation, store, samples, made_with["id"])
    # All seeds of a method on a data set in a regime are one part.
    groups: dict[Job, int] = {}
    jobs = []
    for job in comparison.jobs():
        group = dataclasses.replace(job, seed=0, fold=None)
        if groups.setdefault(group, len(groups)) % shard[1] == first:
            jobs.append(job)
    todo = [job for job in jobs if job not in runner.done()]
    if verbose:
        print(f"{len(jobs) - len(todo)} of {len(jobs)} runs are in {folder}")
    bar = keras.utils.Progbar(len(todo), verbose=verbose, unit_name="run")
    with _interruptions() as pressed, _quick_collections():
        while todo:
            left = [job for job in todo if not runner.work(job)]
            if len(left) < len(todo):
                bar.update(bar.target - len(left))
            elif not pressed:
                # Others are at it; one that is killed is taken over from.
                time.sleep(WAIT)
            todo = left
            if pressed:
                raise KeyboardInterrupt
    # Of runs that others made at the same time, with fewer scores.
    added = added_scores(store, evaluation, made_with["id"])
    add_scores(store, added, verbose)
    store.sweep()


def complete_scores(comparison: Comparison, folder: Path) -> None:
    """Compute the scores of a comparison that finished runs lack."""
    store = Store(folder)
    if not store.runs():
        return
    made_with = environment()
    evaluation = store.joined(comparison).evaluation
    added = added_scores(store, evaluation, made_with["id"])
    if added:
        store.open(comparison)
        if made_with["id"] not in store.environments():
            store.add(made_with)
        add_scores(store, added, verbose=1)


@contextlib.contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Remember Ctrl-C, which Python loses if it hits a finaliser."""
    pressed: list[int] = []

    def press(number: int, frame: FrameType | None) -> None:
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


@contextlib.contextmanager
def _quick_collections() -> Iterator[None]:
    """Let runs freeze what they leave, and give it back at the end."""
    frozen = gc.get_freeze_count()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()


def _first(shard: Any) -> int:
    good = isinstance(shard, tuple | list) and len(shard) == 2
    if (
        not good
        or not all(type(n) is int for n in shard)
        or not 1 <= shard[0] <= shard[1]
    ):
        raise ValueError(
            "`shard` must be (i, n) with 1 <= i <= n. Received: "
            f"shard={shard!r}"
        )
    return shard[0] - 1


class _Runner:
    """Does one job after the other, unless somebody else does it."""

    def __init__(
        self,
        comparison: Comparison,
        evaluation: Evaluation,
        store: Store,
        samples: dict[tuple[str, Any], Samples],
        made_with: str,
    ) -> None:
        self.comparison = comparison
        # With the scores of the runs that the folder has.
        self.evaluation = evaluation
        self.store = store
        self.samples = samples
        self.made_with = made_with

    def done(self) -> set[Job]:
        return {run.job for run in self.store.runs()}

    def work(self, job: Job) -> bool:
        """Return whether the job is done, by this process or another."""
        if job in self.done():
            return True
        with self.store.claims.claim(job.id) as mine:
            if not mine:
                return False
            # It may have been finished before the claim was free.
            if job in self.done():
                return True
            chosen = self._choose(job)
            if chosen is None:
                return False
            try:
                self._make(job, chosen)
            except Exception as error:
                error.add_note(f"This was the run {job.id}.")
                raise
            keras.utils.clear_session()
            # What is left stays: half a second a run is saved where no later
            # collection looks at it again.
            if not gc.get_freeze_count():
                gc.freeze()
            return True

    # -- Tuning --------------------------------------------------------------

    def _choose(self, job: Job) -> Candidate | None:
        """The best settings; `None` while somebody else looks for them."""
        method = self.comparison.methods[job.method]
        grid = self.comparison.tuning_of(method).candidates()
        if len(grid) == 1:
            return grid[0]
        samples = self.samples[job.dataset, job.fold]
        if samples.published is None:
            return self._best(job, job, grid)
        # Every seed of a published split waits for the same choice.
        shared = dataclasses.replace(job, seed=-1)
        key = dataclasses.replace(job, seed=PUBLISHED)
        with self.store.claims.claim(f"tuning-{shared.id}") as mine:
            return self._best(job, key, grid) if mine else None

    def _best(self, job: Job, key: Job, grid: list[Candidate]) -> Candidate:
        known = {
            _text(record.settings): record
            for record in self.store.tried()
            if record.job == key
        }
        tried = []
        for candidate in grid:
            record = known.get(_text(candidate))
            if record is None:
                record = Tried(
                    key,
                    candidate,
                    self.samples[job.dataset, job.fold].fingerprint,
                    **self._inner(job, candidate),
                )
                self.store.add(record)
            tried.append(record)
        return grid[choose(tried)]

    def _inner(self, job: Job, candidate: Candidate) -> dict[str, float | None]:
        samples = self.samples[job.dataset, job.fold]
        method = self.comparison.methods[job.method]
        tuning = self.comparison.tuning_of(method)
        x, y = samples.parts(job.seed)[0]
        inner = [
            inner_scores(
                method,
                self.comparison.regimes[job.regime],
                self.comparison.training_of(job, candidate),
                candidate.options,
                (of_modalities(x, method), y),
                tuning.fraction,
                inner_seed(samples, job.seed, repeat),
            )
            for repeat in range(tuning.repeats)
        ]
        means = {
            name: float(np.mean([scores[name] for scores in inner]))
            for name in ("accuracy", "nll")
        }
        return {
            name: round(value, 6) if np.isfinite(value) else None
            for name, value in means.items()
        }

    # -- The run itself ------------------------------------------------------

    def _make(self, job: Job, chosen: Candidate) -> None:
        samples = self.samples[job.dataset, job.fold]
        method = self.comparison.methods[job.method]
        (x, y), test = samples.parts(job.seed)
        part = of_modalities(x, method), y
        start = time.perf_counter()
        trained = train(
            method,
            self.comparison.regimes[job.regime],
            self.comparison.training_of(job, chosen),
            chosen.options,
            part,
            job.seed,
        )
        seconds = time.perf_counter() - start
        rows = samples.rows(job.seed)[1]
        scores, kept = self._score(job, trained, x, test, rows)
        held_out = of_modalities(test[0], method), test[1]
        probed = self._probe(method, trained, part, held_out)
        self.store.add_predictions(job, kept)
        published = samples.published is not None
        self.store.add(
            Run(
                job=job,
                settings=chosen,
                data=samples.fingerprint,
                split=PUBLISHED if published else RESAMPLED,
                training_samples=len(part[1]),
                parameters=trained.parameters,
                seconds=round(seconds, 1),
                scores=scores,
                scored=[score.name for score in self.evaluation.scores],
                probes=probed,
                environment=self.made_with,
            )
        )

    def _score(
        self,
        job: Job,
        trained: Trained,
        training: dict[str, Any],
        test: Part,
        rows: Array,
    ) -> tuple[dict[str, list], Kept]:
        """Scores of all conditions, and the predictions behind them."""
        chosen = self.evaluation
        method = self.comparison.methods[job.method]
        # All modalities are corrupted, so that every row sees the same draws;
        # then a row takes its own.
        keeper = Keeper()
        report = evaluate_robustness(
            _asked(trained, method, chosen.batch_size),
            *test,
            chosen.protocols,
            seeds=corruption_seeds(job.seed, chosen.seeds),
            scores=[*chosen.scores, keeper.score()],
            training=training,
            output=trained.output,
            bins=chosen.bins,
            batch_size=chosen.batch_size,
            verbose=0,
        )
        found = pack(report.scores.drop(columns=keeper.name))
        return found, keeper.kept(found, rows)

    def _probe(
        self, method: Any, trained: Trained, part: Part, test: Part
    ) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for name, probe in self.evaluation.probes.items():
            if method.probes is not None and name not in method.probes:
                continue
            (x, y), (x_test, y_test) = part, test
            extra = {}
            if takes(probe, "training"):
                extra["training"] = trained.around.inputs(x), y
            x_test = trained.around.inputs(x_test)
            for key, value in probe(
                trained.model, x_test, y_test, **extra
            ).items():
                value = float(value)
                found[f"{name}/{key}"] = value if np.isfinite(value) else None
        return found


def _asked(trained: Trained, method: Method, batch_size: int) -> Any:
    """The model, or a function of all modalities that asks it.

    Where it has only some of them, what is said of each is left out: there is
    nothing on the others.
    """
    if method.modalities is None and trained.around.quality is None:
        return trained.model

    def predict(inputs: dict) -> Any:
        outputs = trained.predict(of_modalities(inputs, method), batch_size)
        if method.modalities is None or not isinstance(outputs, Mapping):
            return outputs
        return {
            k: v for k, v in outputs.items() if k in (LOGITS, PROBABILITIES)
        }

    return predict


def corruption_seeds(seed: int, count: int) -> list[int]:
    """Each run draws its corruptions anew, the same for every method."""
    return [1000 * seed + index for index in range(count)]


def inner_seed(samples: Samples, seed: int, repeat: int) -> int:
    """Seed of an inner split; one published split has the same ones."""
    first = 0 if samples.published is not None else seed
    return 1000 * first + repeat


def _text(candidate: Candidate) -> str:
    return json.dumps(candidate.to_dict())


def choose(tried: Sequence[Tried]) -> int:
    """The place of the best accuracy, of these the best likelihood.

    Without a likelihood there were NaN predictions: these come last.
    """

    def rank(place: int) -> tuple:
        nll, accuracy = tried[place].nll, tried[place].accuracy
        return nll is not None, accuracy, 0.0 if nll is None else -nll

    return max(range(len(tried)), key=rank)


def _check_splits(
    comparison: Comparison, samples: dict[tuple[str, Any], Samples]
) -> None:
    """Find a class that is too small for a split before the first run."""
    tunings = [comparison.tuning_of(m) for m in comparison.methods.values()]
    inner = sorted(
        {
            (tuning.fraction, repeat)
            for tuning in tunings
            if len(tuning.candidates()) > 1
            for repeat in range(tuning.repeats)
        }
    )
    for data in samples.values():
        for seed in comparison.seeds:
            y = data.y[data.rows(seed)[0]]
            lost = sorted(set(data.y.tolist()) - set(y.tolist()))
            if lost:
                raise ValueError(
                    f"`datasets.{data.name}` must have samples of every class "
                    f"in its training part. Received: none of the classes "
                    f"{lost}"
                )
            for fraction, repeat in inner:
                chosen = inner_seed(data, seed, repeat)
                stratified(y, fraction, chosen, "tuning.fraction")


def _check_data(store: Store, samples: dict[tuple[str, Any], Samples]) -> None:
    known = {key: data.fingerprint for key, data in samples.items()}
    records: list[Run | Tried] = [*store.runs(), *store.tried()]
    for record in records:
        key = (record.job.dataset, record.job.fold)
        if record.data != known.get(key, record.data):
            raise ValueError(
                f"`folder` must hold runs on these data; {store.folder} "
                f"holds runs on other data of '{record.job.dataset}'. "
                f"Received: data with the checksum {known[key]}, not "
                f"{record.data}"
            )
