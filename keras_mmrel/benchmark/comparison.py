import contextlib
import dataclasses
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import TypeVar

from keras_mmrel.benchmark._candidate import Candidate
from keras_mmrel.benchmark._checks import build
from keras_mmrel.benchmark._checks import different_names
from keras_mmrel.benchmark._checks import folder as as_folder
from keras_mmrel.benchmark._checks import mapping
from keras_mmrel.benchmark._checks import named
from keras_mmrel.benchmark._checks import nearest
from keras_mmrel.benchmark._checks import within
from keras_mmrel.benchmark._job import Job
from keras_mmrel.benchmark.dataset import Dataset
from keras_mmrel.benchmark.dataset import as_dataset
from keras_mmrel.benchmark.evaluation import Evaluation
from keras_mmrel.benchmark.method import Method
from keras_mmrel.benchmark.method import as_method
from keras_mmrel.benchmark.regime import Regime
from keras_mmrel.benchmark.regime import as_regime
from keras_mmrel.benchmark.training import Training
from keras_mmrel.benchmark.tuning import Tuning
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Names
from keras_mmrel.contract import as_path

# 1000 times as much is still a seed of NumPy.
LARGEST = 4_000_000
Made = TypeVar("Made")
SECTIONS = (
    "title", "datasets", "methods", "regimes", "seeds", "training", "tuning",
    "evaluation", "baseline", "notes",
)  # fmt: skip


class Comparison:
    """Methods on data sets in training regimes with seeds: rows for a table.

    Every method is trained on every data set in every regime with every seed,
    for the whole number of epochs, and scored once on the test part, clean
    and corrupted.

    Args:
        datasets: Dict of name -> `Dataset`, a function that returns data, or
            a dict of a data set's fields; or a list of names of loaders.
        methods: Dict of name -> `Method`, a function of
            `(modalities, num_classes)`, a class, or a dict of a method's
            fields; or a list of names of models.
        regimes: Dict of name -> `Regime`, a function of a seed that returns
            an augmentation, or a dict of options of
            `keras_mmrel.layers.CorruptionAugmentation`; by default clean
            training.
        seeds: Number of seeds, or a sequence of them.
        training: `Training`, or a dict of its fields.
        tuning: `Tuning`, or a dict of its fields.
        evaluation: `Evaluation`, or a dict of its fields.
        baseline: Name of the method of the paired tests; the first one.
        title: Title of the report.
        notes: What a reader of the tables must know, such as a choice that a
            look at test data has influenced; paragraphs that the report has
            before its tables.
        folder: Where relative paths of files begin.
        data: Folder with the folders of built-in data sets (`rosmap`, `brca`,
            `breast_tcga`, `cub`, `wiki`, `fsdd`) that are not to be
            downloaded, or cannot be.

    Raises:
        ValueError: With the first thing that is wrong.

    Example:

    >>> import tempfile
    >>> y = np.arange(40) % 2
    >>> x = {"a": np.random.rand(40, 4), "b": np.random.rand(40, 3)}
    >>> comparison = keras_mmrel.benchmark.Comparison(
    ...     methods={
    ...         "mine": lambda modalities, num_classes: (
    ...             keras_mmrel.ConcatFusion(modalities, num_classes)
    ...         ),
    ...         "LateFusion": {},
    ...     },
    ...     datasets={"own": lambda: (x, y)},
    ...     seeds=1,
    ...     training={"epochs": 1},
    ...     evaluation={"corruptions": ["missing"]},
    ... )
    >>> folder = tempfile.mkdtemp()
    >>> comparison.run(folder, verbose=0)
    >>> comparison.report(folder)[0].name
    'report.md'
    """

    def __init__(
        self,
        datasets: Mapping[str, Any] | Sequence[str],
        methods: Mapping[str, Any] | Sequence[str],
        regimes: Mapping[str, Any] | Sequence[str] = ("clean",),
        seeds: int | Sequence[int] = 5,
        training: Training | Mapping[str, Any] | None = None,
        tuning: Tuning | Mapping[str, Any] | None = None,
        evaluation: Evaluation | Mapping[str, Any] | None = None,
        baseline: str | None = None,
        title: str = "Comparison",
        notes: Sequence[str] = (),
        folder: Path | str = ".",
        data: Path | str | None = None,
    ) -> None:
        for key, entries in (("datasets", datasets), ("methods", methods)):
            if not entries:
                raise ValueError(
                    f"`{key}` must name at least one. Received: "
                    f"{key}={entries!r}"
                )
        if not isinstance(title, str):
            raise ValueError(
                f"`title` must be a text. Received: title={title!r}"
            )
        self.title = title
        self.notes = list(Names()("notes", notes))
        self.folder = as_folder("folder", folder)
        self.data = None if data is None else as_folder("data", data)
        self.training = build(Training, "training", training)
        self.tuning = build(Tuning, "tuning", tuning)
        self.evaluation = build(Evaluation, "evaluation", evaluation)
        self.methods = _objects("methods", methods, as_method)
        self.regimes = _objects("regimes", regimes, as_regime)
        self.datasets = _objects("datasets", datasets, as_dataset)
        self.seeds = _as_seeds(seeds)
        first = next(iter(self.methods))
        self.baseline = first if baseline is None else str(baseline)
        if self.baseline not in self.methods:
            raise ValueError(
                f"`baseline` must be one of the methods {list(self.methods)}. "
                f"Received: baseline={self.baseline!r}"
                f"{nearest(self.baseline, self.methods)}"
            )
        self._check_methods()

    def _check_methods(self) -> None:
        for name, method in self.methods.items():
            where = f"methods.{name}"
            with within(where):
                method.check_tuning(self.tuning_of(method))
                for probe in method.probes or ():
                    mapping("probes", {probe: 0}, self.evaluation.probes)

    @classmethod
    def from_yaml(
        cls,
        path: Path | str,
        data: Path | str | None = None,
        *,
        datasets: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
        regimes: Sequence[str] | None = None,
        seeds: int | Sequence[int] | None = None,
    ) -> "Comparison":
        """Read a comparison from a file with the arguments as sections.

        Args:
            path: Path of a YAML file; relative paths in it begin beside it,
                and classes may be those of modules beside it.
            data: As the argument `data`.
            datasets: Names of the file's data sets to keep, or `None` for
                all.
            methods: The same of its methods. Where they leave the baseline
                out, it is the first of them.
            regimes: The same of its regimes.
            seeds: Instead of the file's, or `None`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: With the first thing that is wrong.
            ImportError: If PyYAML is not there.

        Example:

        >>> try:
        ...     keras_mmrel.benchmark.Comparison.from_yaml("no.yaml")
        ... except FileNotFoundError as error:
        ...     print(error)
        `config` must be a YAML file. Received: config='no.yaml', which is none
        """
        from keras_mmrel.benchmark._yaml import read_yaml

        path = as_path("config", path)
        if not path.is_file():
            raise FileNotFoundError(
                "`config` must be a YAML file. Received: "
                f"config={str(path)!r}, which is none"
            )
        given = mapping("config", read_yaml(path), SECTIONS)
        for key in ("datasets", "methods"):
            given.setdefault(key, None)
        given.setdefault("regimes", ["clean"])
        kept = {"datasets": datasets, "methods": methods, "regimes": regimes}
        for key, names in kept.items():
            if names is not None:
                given[key] = _kept(key, given[key], names)
        if methods is not None:
            # The first one, unless the file's is among them.
            baseline = given.get("baseline")
            if str(baseline) not in given["methods"]:
                baseline = None
            given["baseline"] = baseline
        if seeds is not None:
            given["seeds"] = seeds
        with _importable(path.parent):
            return cls(**given, folder=path.parent, data=data)

    def run(
        self,
        folder: Path | str,
        *,
        shard: tuple[int, int] = (1, 1),
        verbose: int = 1,
    ) -> None:
        """Train and score what a folder does not hold yet.

        Every finished run is a line of `runs.jsonl` at once, and its
        predictions are a file in `predictions`. A command that was killed
        goes on where it stopped; a comparison with further methods, data
        sets, regimes or seeds adds their runs. A score that is new is
        computed for the runs that are there from their predictions. Processes
        that run at once on one folder share the work.

        Args:
            folder: Folder of the results.
            shard: `(i, n)`: this process does only the i-th of n parts.
            verbose: 0 for no progress bar.

        Raises:
            ValueError: If the folder holds runs of another comparison or of
                other data, the data are not as they must be, or a new score
                needs what was not kept.
            FileNotFoundError: If a file is not there.
            OSError: If the folder cannot be written to.
        """
        from keras_mmrel.benchmark._run import run_comparison

        run_comparison(self, as_path("folder", folder), shard, verbose)

    def report(
        self, folder: Path | str, baseline: str | None = None
    ) -> list[Path]:
        """Render a folder: see `keras_mmrel.benchmark.report`.

        Scores that this comparison has and the runs in the folder lack are
        computed first, from the kept predictions.

        Raises:
            ValueError: If there are no runs, if they are those of another
                comparison, or if a score needs what was not kept.
        """
        from keras_mmrel.benchmark._report import report
        from keras_mmrel.benchmark._run import complete_scores

        complete_scores(self, as_path("folder", folder))
        return report(folder, self.baseline if baseline is None else baseline)

    def jobs(self) -> list[Job]:
        """Return every run, seeds first, so that tables fill evenly."""
        return [
            Job(seed, name, fold, regime, method)
            for seed in self.seeds
            for name, dataset in self.datasets.items()
            for fold in (dataset.folds or (None,))
            for regime in self.regimes
            for method in self.methods
        ]

    def tuning_of(self, method: Method) -> Tuning:
        """Return how the settings of a method are chosen."""
        return self.tuning if method.tuning is None else method.tuning

    def training_of(self, job: Job, candidate: Candidate) -> Training:
        """Return how a run is trained: the comparison's, then its parts'."""
        return dataclasses.replace(
            self.training,
            **{
                **self.datasets[job.dataset].training,
                **self.regimes[job.regime].training,
                **self.methods[job.method].training,
                **candidate.training,
            },
        )

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Comparison":
        """Rebuild what `to_dict` described.

        What only somebody's code can make, models and own functions, is a
        name there: such a comparison has a report and cannot run.
        """
        makers = {
            "datasets": Dataset.from_dict,
            "methods": Method.from_dict,
            "regimes": Regime.from_dict,
        }
        entries = {
            key: {name: make(entry) for name, entry in record[key].items()}
            for key, make in makers.items()
        }
        evaluation = Evaluation.from_dict(record["evaluation"])
        return cls(**{**record, **entries, "evaluation": evaluation})

    def adding(self, known: "Comparison") -> "Comparison":
        """Return a comparison of all that either has, the other's first.

        Some rows alone, without the other's baseline, leave it that.
        """
        chosen = self if known.baseline in self.methods else known
        return Comparison(
            datasets={**known.datasets, **self.datasets},
            methods={**known.methods, **self.methods},
            regimes={**known.regimes, **self.regimes},
            seeds=sorted({*known.seeds, *self.seeds}),
            training=self.training,
            tuning=self.tuning,
            evaluation=self.evaluation.adding(known.evaluation.scores),
            baseline=chosen.baseline,
            title=self.title,
            notes=self.notes,
            folder=self.folder,
            data=self.data,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what identifies the comparison in a folder."""
        return {
            "title": self.title,
            "notes": self.notes,
            "datasets": {n: d.to_dict() for n, d in self.datasets.items()},
            "methods": {n: m.to_dict() for n, m in self.methods.items()},
            "regimes": {n: r.to_dict() for n, r in self.regimes.items()},
            "seeds": list(self.seeds),
            "training": dataclasses.asdict(self.training),
            "tuning": self.tuning.to_dict(),
            "evaluation": self.evaluation.to_dict(),
            "baseline": self.baseline,
        }


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let a file name classes of modules that stand beside it."""
    added = str(folder.resolve())
    sys.path.append(added)
    try:
        yield
    finally:
        sys.path.remove(added)


def _kept(key: str, entries: Any, names: Sequence[str]) -> dict[str, Any]:
    """The entries of some names, in the order of the file."""
    known = named(key, entries or {})
    different_names(key, names)
    mapping(key, dict.fromkeys(names, 0), known)
    return {name: known[name] for name in known if name in names}


def _objects(
    key: str, entries: Any, make: Callable[[str, str, Any], Made]
) -> dict[str, Made]:
    return {
        name: make(f"{key}.{name}", name, entry)
        for name, entry in named(key, entries).items()
    }


def _as_seeds(value: Any) -> tuple[int, ...]:
    given = tuple(value) if isinstance(value, range) else value
    seeds = Either(Integer(1), Every(Integer(0)))("seeds", given)
    if isinstance(seeds, int):
        seeds = range(min(seeds, LARGEST + 2))
    if max(seeds) > LARGEST or len(set(seeds)) != len(seeds):
        raise ValueError(
            "`seeds` must be a positive integer or a list of different "
            f"integers from 0 to {LARGEST}. Received: seeds={value!r}"
        )
    return tuple(seeds)
