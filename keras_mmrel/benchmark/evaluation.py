import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

from keras_mmrel import corruptions
from keras_mmrel.benchmark._checks import attempt
from keras_mmrel.benchmark._checks import choice
from keras_mmrel.benchmark._checks import imported
from keras_mmrel.benchmark._checks import named
from keras_mmrel.benchmark._component import as_component
from keras_mmrel.benchmark._component import own
from keras_mmrel.benchmark._probes import PROBES
from keras_mmrel.benchmark._recorded import Recorded
from keras_mmrel.benchmark._recorded import RecordedCorruption
from keras_mmrel.constraints import Integer
from keras_mmrel.evaluation import NOISE_PROTOCOLS
from keras_mmrel.evaluation import SCORES
from keras_mmrel.evaluation import NoiseProtocol
from keras_mmrel.evaluation import Score
from keras_mmrel.evaluation._scores import as_scores
from keras_mmrel.evaluation.noise_protocol import as_protocols

CORRUPTIONS = (
    "gaussian_one", "gaussian_half", "feature_noise", "gaussian_clipped",
    "feature_swap", "unaligned", "conflict", "marginals_kept", "missing",
    "missing_unannounced",
)  # fmt: skip


# What a user gives becomes a tuple of `Score`s, and a dict of functions.
Scores: TypeAlias = Any
Probes: TypeAlias = Any


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What every trained model is scored on, once.

    Args:
        corruptions: Names of `keras_mmrel.evaluation.NOISE_PROTOCOLS`,
            `NoiseProtocol`s or `Corruption`s, in a sequence or a dict by
            name, in which `{class: options}` stands for a corruption too.
        severities: Sequence of severities for all corruptions, or a dict of
            corruption name -> sequence; by default the protocols' own.
        seeds: Number of draws of each corruption.
        scores: Names of `keras_mmrel.evaluation.SCORES`, or `Score`s; by
            default all of these. The first that is good or bad is the one of
            figures and differences.
        bins: Number of bins of the calibration error.
        batch_size: Number of samples of a prediction step.
        probes: Names of probes (`"modality_accuracy"`, `"linear_probe"`,
            `"learning_curves"`), or a dict of name -> such a name, a path to
            a function, or a function of `(model, x, y)` that returns a dict
            of numbers. It gets the test part, and `training=(x, y)` if it
            takes that.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> evaluation = keras_mmrel.benchmark.Evaluation(
    ...     ["missing"], scores=["accuracy", "nll"]
    ... )
    >>> [protocol.name for protocol in evaluation.protocols]
    ['missing']
    """

    corruptions: Any = CORRUPTIONS
    severities: Any = None
    seeds: int = 1
    scores: Scores = None
    bins: int = 15
    batch_size: int = 1024
    probes: Probes = ()
    protocols: tuple[NoiseProtocol, ...] = dataclasses.field(
        init=False, compare=False
    )

    def __post_init__(self) -> None:
        put = functools.partial(object.__setattr__, self)
        for key in ("seeds", "bins", "batch_size"):
            put(key, Integer(1)(key, getattr(self, key)))
        if not isinstance(self.corruptions, list | tuple | Mapping):
            raise ValueError(
                "`corruptions` must be a list of names of protocols, or a "
                f"dict of corruptions by name. Received: {self.corruptions!r}"
            )
        put(
            "protocols",
            attempt(
                "corruptions", self._protocols, self.corruptions, "severities"
            ),
        )
        chosen = [*SCORES] if self.scores is None else self.scores
        if not isinstance(chosen, list | tuple) or not chosen:
            raise ValueError(
                "`scores` must be a list of names or `Score`s. Received: "
                f"{self.scores!r}"
            )
        scores = [
            s if isinstance(s, Score) else SCORES[choice("scores", s, SCORES)]
            for s in chosen
        ]
        put("scores", tuple(as_scores(scores)))
        put("probes", _as_probes(self.probes))

    def _protocols(self) -> tuple[NoiseProtocol, ...]:
        given = self.corruptions
        if isinstance(given, Mapping) and given:
            # Of a file: a class and its options.
            given = {
                name: as_component(name, item, corruptions).make()
                if isinstance(item, Mapping)
                else item
                for name, item in named("corruptions", given).items()
            }
        names = given.values() if isinstance(given, Mapping) else given
        for item in names:
            if isinstance(item, str):
                choice("corruptions", item, NOISE_PROTOCOLS)
        return tuple(as_protocols(given, self.severities))

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Evaluation":
        """Rebuild what `to_dict` described, own functions as names."""
        protocols = [
            NoiseProtocol(
                **{
                    **p,
                    "corruption": RecordedCorruption(1.0, text=p["corruption"]),
                }
            )
            for p in record["corruptions"]
        ]
        scores = [_recorded_score(score) for score in record["scores"]]
        probes = {
            name: PROBES.get(probe) or Recorded(probe)
            for name, probe in record["probes"].items()
        }
        changes = {"corruptions": protocols, "scores": scores, "probes": probes}
        return cls(**{**record, **changes})

    def adding(self, scores: Sequence[Score]) -> "Evaluation":
        """Return the same with further scores, which come first."""
        mine = {score.name: score for score in self.scores}
        first = {s.name: mine.get(s.name, s) for s in scores}
        return dataclasses.replace(self, scores=[*{**first, **mine}.values()])

    def to_dict(self) -> dict[str, Any]:
        """Return what identifies it in a file."""
        return {
            "corruptions": [p.describe() for p in self.protocols],
            "seeds": self.seeds,
            "scores": [describe_score(score) for score in self.scores],
            "bins": self.bins,
            "batch_size": self.batch_size,
            "probes": {
                name: probe.__name__ if probe in PROBES.values() else own(probe)
                for name, probe in self.probes.items()
            },
        }


def describe_score(score: Score) -> dict[str, Any]:
    """Return what identifies a score: all that it says, and its own code."""
    if SCORES.get(score.name) == score:
        return score.describe()
    return {**score.describe(), "function": own(score.function)}


def _recorded_score(record: Mapping[str, Any]) -> Score:
    known = SCORES.get(record["name"])
    if known is not None and known.describe() == record:
        return known
    function = record.get("function", f"{record['name']} of another version")
    return Score(**{**record, "function": Recorded(function)})


def _as_probes(probes: Any) -> dict[str, Callable]:
    if isinstance(probes, list | tuple):
        probes = {str(name): name for name in probes}
    if isinstance(probes, Mapping) and probes:
        probes = named("probes", probes)
    if not isinstance(probes, Mapping):
        raise ValueError(
            "`probes` must be names, or a dict of functions by name. "
            f"Received: {probes!r}"
        )
    found = {}
    for name, probe in probes.items():
        where = f"probes.{name}"
        if isinstance(probe, str):
            probe = (
                imported(where, probe)
                if "." in probe
                else PROBES[choice(where, probe, PROBES)]
            )
        if not callable(probe):
            raise ValueError(
                f"`{where}` must be a function of (model, x, y). Received: "
                f"{probe!r}"
            )
        found[name] = probe
    return found
