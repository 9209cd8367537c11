import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

from keras_mmrel.constraints import Number
from keras_mmrel.corruptions import ClippedGaussianNoise
from keras_mmrel.corruptions import Corruption
from keras_mmrel.corruptions import FeaturePermutation
from keras_mmrel.corruptions import FeatureSwap
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import MissingModality
from keras_mmrel.corruptions import ModalityConflict
from keras_mmrel.corruptions import QMFImageNoise
from keras_mmrel.corruptions import SaltAndPepper
from keras_mmrel.corruptions import TokenReplacement
from keras_mmrel.corruptions import UnalignedSamples

SIGMAS = (0.2, 0.5, 1.0, 5.0)
FRACTIONS = (0.1, 0.3, 0.5)


@dataclasses.dataclass(frozen=True)
class NoiseProtocol:
    """A corruption, the severities to test with, and a name for the table.

    Args:
        name: What a table calls it.
        corruption: A `keras_mmrel.corruptions.Corruption`; only its severity
            is replaced.
        severities: List or tuple of different numbers of at least 0 that the
            corruption takes.
        description: One sentence: what is done to whom, and who does so.

    Raises:
        ValueError: If `corruption` is none, or a severity is no finite number
            of at least 0 that the corruption takes, or is there twice.

    Example:

    >>> protocol = keras_mmrel.evaluation.NOISE_PROTOCOLS["gaussian_one"]
    >>> protocol.severities
    (0.2, 0.5, 1.0, 5.0)
    >>> protocol.at(0.5).severity
    0.5
    """

    name: str
    corruption: Corruption
    severities: Sequence[float]
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(
                "`name` must be a non-empty string. Received: "
                f"name={self.name!r}"
            )
        if not isinstance(self.corruption, Corruption):
            raise ValueError(
                f"`corruption` of '{self.name}' must be a `keras_mmrel."
                "corruptions.Corruption`. Received: "
                f"corruption={self.corruption!r}"
            )
        if not isinstance(self.severities, list | tuple):
            raise ValueError(
                f"`severities` of '{self.name}' must be a list or tuple of "
                f"finite numbers. Received: severities={self.severities!r}"
            )
        if len(self.severities) == 0:
            raise ValueError(
                f"`severities` of '{self.name}' must hold at least one "
                "number. Received: an empty sequence"
            )
        checked = tuple(
            float(Number(0)(f"severities['{self.name}']", s))
            for s in self.severities
        )
        if len(set(checked)) != len(checked):
            raise ValueError(
                f"`severities` of '{self.name}' must be different numbers. "
                f"Received: severities={self.severities!r}"
            )
        object.__setattr__(self, "severities", checked)
        for severity in checked:
            self.at(severity)

    def at(self, severity: float) -> Corruption:
        """Return the corruption with another severity."""
        config = {**self.corruption.get_config(), "severity": severity}
        return type(self.corruption).from_config(config)

    def describe(self) -> dict[str, Any]:
        """Return what identifies the protocol in a report."""
        return {
            "name": self.name,
            "corruption": repr(self.corruption),
            "severities": list(self.severities),
            "description": self.description,
        }


def _named(
    name: str,
    corruption: Corruption,
    severities: Sequence[float],
    description: str,
) -> dict[str, NoiseProtocol]:
    return {name: NoiseProtocol(name, corruption, severities, description)}


# Keys are the names that `evaluate_robustness` takes.
NOISE_PROTOCOLS: Mapping[str, NoiseProtocol] = {
    **_named(
        "gaussian_one",
        GaussianNoise(1.0, "one"),
        SIGMAS,
        "Gaussian noise σ on one random modality of each sample.",
    ),
    **_named(
        "gaussian_half",
        GaussianNoise(1.0, "independent"),
        SIGMAS,
        "Gaussian noise σ on each modality of each sample with probability "
        "1/2, independently: QMF's choice of whom to corrupt, on features.",
    ),
    **_named(
        "gaussian_all",
        GaussianNoise(1.0, "all"),
        SIGMAS,
        "Gaussian noise σ on all modalities, as in the omics literature.",
    ),
    **_named(
        "feature_noise",
        GaussianNoise(1.0, "all", feature_fraction=0.3),
        SIGMAS[1:],
        "Gaussian noise σ on 30 % of the features of every modality.",
    ),
    **_named(
        "qmf_image",
        QMFImageNoise(5.0),
        (5.0, 10.0),
        "QMF's image noise of σ = 10 eps on the scale to 255, corrected: "
        "noise of its own for each sample, cut off at black and white.",
    ),
    **_named(
        "qmf_image_published",
        QMFImageNoise(5.0, as_published=True),
        (5.0, 10.0),
        "QMF's image noise of σ = 10 eps as published: one pattern for all "
        "samples, dark pixels overflow.",
    ),
    **_named(
        "qmf_rgbd",
        QMFImageNoise(5.0, deviation=1.0),
        (5.0, 10.0),
        "QMF's RGB-D noise of σ = eps on the scale to 255, corrected.",
    ),
    **_named(
        "qmf_rgbd_published",
        QMFImageNoise(5.0, deviation=1.0, as_published=True),
        (5.0, 10.0),
        "QMF's RGB-D noise of σ = eps, as published: one pattern for all "
        "samples, dark pixels overflow.",
    ),
    **_named(
        "qmf_text",
        TokenReplacement(0.5),
        (0.5, 1.0),
        "QMF's text noise: tokens replaced with probability 0.1 eps.",
    ),
    **_named(
        "qmf_salt",
        SaltAndPepper(0.1, "independent"),
        (0.1,),
        "Salt and pepper of density 0.1 on each modality with probability "
        "1/2, after QMF.",
    ),
    **_named(
        "unaligned",
        UnalignedSamples(0.3, "one"),
        FRACTIONS,
        "A fraction of the samples gets another sample's features in one "
        "random modality.",
    ),
    **_named(
        "missing",
        MissingModality(1.0, "one"),
        (0.5, 1.0),
        "One random modality of a fraction of the samples is gone, announced "
        "by the mask.",
    ),
    **_named(
        "missing_unannounced",
        MissingModality(1.0, "one", announce=False),
        (0.5, 1.0),
        "One random modality of a fraction of the samples is zero, and nobody "
        "says so.",
    ),
    **_named(
        "gaussian_clipped",
        ClippedGaussianNoise(1.0, "one"),
        SIGMAS,
        "Gaussian noise σ on one random modality of each sample, clipped to "
        "the range of each feature.",
    ),
    **_named(
        "feature_swap",
        FeatureSwap(0.5, "one"),
        (0.1, 0.3, 0.5),
        "A fraction of the features of one random modality of each sample is "
        "taken from other samples.",
    ),
    **_named(
        "marginals_kept",
        FeaturePermutation(1.0, "one"),
        (0.3, 0.5, 1.0),
        "In one random modality of a fraction of the samples each feature is "
        "permuted over these samples, apart from the others.",
    ),
    **_named(
        "conflict",
        ModalityConflict(0.3, "one"),
        FRACTIONS,
        "One random modality of a fraction of the samples comes from a "
        "sample of another class.",
    ),
}


# What stands for a protocol, and what `evaluate_robustness` takes of them.
Item: TypeAlias = str | Corruption | NoiseProtocol
Corruptions: TypeAlias = Item | Sequence[Item] | Mapping[str, Item]
Severities: TypeAlias = Sequence[float] | Mapping[str, Sequence[float]] | None


def as_protocols(
    corruptions: Corruptions, severities: Severities
) -> list[NoiseProtocol]:
    """Make protocols of all that `evaluate_robustness` takes."""
    if isinstance(corruptions, str | Corruption | NoiseProtocol):
        corruptions = [corruptions]
    if isinstance(corruptions, Mapping):
        named: list[tuple[str | None, Item]] = list(corruptions.items())
    elif isinstance(corruptions, Sequence):
        named = [(None, item) for item in corruptions]
    else:
        raise ValueError(
            "`corruptions` must be a sequence of names of protocols, "
            "protocols or corruptions, or a dict of name -> one of them. "
            f"Received: corruptions={corruptions!r}"
        )
    protocols = [_as_protocol(name, item) for name, item in named]
    names = [p.name for p in protocols]
    if len(set(names)) != len(names) or "clean" in names:
        raise ValueError(
            "`corruptions` must have different names, none of them 'clean'; "
            f"name them by a dict. Received: {names}"
        )
    if isinstance(severities, Mapping):
        unknown = [name for name in severities if name not in names]
        if unknown:
            raise ValueError(
                f"`severities` must be named as the corruptions, {names}. "
                f"Received: {unknown}"
            )
        chosen = dict(severities)
    else:
        chosen = {} if severities is None else dict.fromkeys(names, severities)
    return [
        dataclasses.replace(p, severities=chosen.get(p.name, p.severities))
        for p in protocols
    ]


def _as_protocol(name: str | None, item: Item) -> NoiseProtocol:
    if isinstance(item, str):
        if item not in NOISE_PROTOCOLS:
            raise ValueError(
                "`corruptions` must name protocols out of "
                f"{list(NOISE_PROTOCOLS)}. Received: {item!r}"
            )
        item = NOISE_PROTOCOLS[item]
    if isinstance(item, Corruption):
        item = NoiseProtocol(
            name or type(item).__name__, item, (item.severity,)
        )
    if not isinstance(item, NoiseProtocol):
        raise ValueError(
            "`corruptions` must hold names of protocols, protocols or "
            f"corruptions. Received: {item!r}"
        )
    return item if name is None else dataclasses.replace(item, name=name)
