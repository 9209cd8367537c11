"""The function that scores a model on clean and on corrupted data."""

import dataclasses
import platform
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Model
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import is_pixels
from keras_mmrel.contract import map_parts
from keras_mmrel.contract import parts_of
from keras_mmrel.contract import read_tables
from keras_mmrel.contract import to_numpy
from keras_mmrel.corruptions import Corruption
from keras_mmrel.corruptions._inputs import as_texts
from keras_mmrel.corruptions._inputs import is_numbers
from keras_mmrel.corruptions._inputs import is_text
from keras_mmrel.evaluation._checks import check_model
from keras_mmrel.evaluation._checks import takes_mask
from keras_mmrel.evaluation._outputs import read_outputs
from keras_mmrel.evaluation._ranges import Ranges
from keras_mmrel.evaluation._scores import as_scores
from keras_mmrel.evaluation._scores import curves
from keras_mmrel.evaluation.noise_protocol import Corruptions
from keras_mmrel.evaluation.noise_protocol import NoiseProtocol
from keras_mmrel.evaluation.noise_protocol import Severities
from keras_mmrel.evaluation.noise_protocol import as_protocols
from keras_mmrel.evaluation.predictions import Predictions
from keras_mmrel.evaluation.robustness_report import RobustnessReport
from keras_mmrel.evaluation.score import Score
from keras_mmrel.optional import require
from keras_mmrel.user_warning import warn

DEFAULT = (
    "gaussian_one",
    "gaussian_half",
    "feature_noise",
    "unaligned",
    "missing",
    "missing_unannounced",
)


Predict = Callable[[Modalities], ArrayLike]
Job = tuple[NoiseProtocol, float, int]
POINT = ["corruption", "severity", "seed", "curve", "x", "y", "samples"]


@constrained(
    output=Choice("auto", "logits", "probabilities"),
    bins=Integer(1),
    batch_size=Integer(1),
    keep_predictions=Flag(),
    verbose=Either(Flag(), Integer(0)),
)
def evaluate_robustness(
    model: Model,
    x: Modalities,
    y: Labels,
    corruptions: Corruptions = DEFAULT,
    severities: Severities = None,
    seeds: int | Sequence[int] = 1,
    *,
    scores: Sequence[str | Score] | None = None,
    training: Modalities | None = None,
    output: str = "auto",
    bins: int = 15,
    batch_size: int = 256,
    keep_predictions: bool = False,
    verbose: int = 1,
) -> RobustnessReport:
    """Score a model on clean and on corrupted test data.

    Every corruption is applied at every severity with every seed; the model
    predicts each of these test sets once, by one program, and is neither
    loaded nor compiled anew. The report has a column for each of the scores,
    and says of each corruption whether it is `in_range`: whether it leaves
    every feature within the range of the clean data, where no check of
    ranges finds it. That is measured for those that say so of themselves.

    A corruption acts on the modalities that it can be applied to, and leaves
    the others as they are: noise changes an image and not the tokens of a text
    beside it, while a text can be missing, unaligned or of another class.
    `info` names them for each of the protocols.

    A NaN among the predictions is not averaged away: the row is NaN,
    `invalid` counts the samples, and a warning names the corruption.

    Args:
        model: Any Keras model that takes a dict of modalities, or a function
            from such a dict to outputs. Outputs are an array of shape
            `(samples, classes)` or a dict with `"logits"` or
            `"probabilities"`. A model that does not take `"modality_mask"`
            is not told what is missing.
        x: Dict of modality name -> array, and maybe `"modality_mask"`.
            Integers reach the model as float32, clean as corrupted. A
            modality may be a dict of arrays, such as numbers of tokens and the
            mask of their padding, or strings, where the model takes these.
        y: Class numbers `(samples,)` or one-hot rows.
        corruptions: Names of `NOISE_PROTOCOLS`, `NoiseProtocol`s or
            `Corruption`s, in a sequence or a dict by name.
        severities: Sequence of severities for all corruptions, or a dict of
            corruption name -> sequence; by default the protocols' own, and a
            corruption's own.
        seeds: Number of seeds, or a sequence of them: each draws the
            corruption anew.
        scores: `Score`s, or names out of `keras_mmrel.evaluation.SCORES`; by
            default all of these. Scores of a `"confidence"`, a `"depth"` or
            a `"modality_quality"` are there where the model returns one.
        training: Dict of the clean training inputs, whose range of a feature
            counts as well as that in `x`; or `None`.
        output: What the model returns: `"logits"`, `"probabilities"`, or
            `"auto"`, which takes rows that add up to 1 on the clean data for
            probabilities. Of probabilities none counts as less than 1e-12.
        bins: Number of bins of the calibration error.
        batch_size: Number of samples of a prediction step.
        keep_predictions: Whether the report keeps the predicted
            probabilities of every row.
        verbose: 0 for no progress bar.

    Returns:
        A `RobustnessReport`.

    Raises:
        ValueError: If an argument is not as above, or a corruption names a
            modality that `x` does not have or that it cannot be applied to.
        ImportError: If pandas or scikit-learn is not there.

    Example:

    >>> model = keras_mmrel.LateFusion({"a": (8,), "b": (4,)}, 2)
    >>> x = {"a": np.random.rand(20, 8), "b": np.random.rand(20, 4)}
    >>> report = keras_mmrel.evaluation.evaluate_robustness(
    ...     model, x, np.arange(20) % 2, ["missing"], verbose=0
    ... )
    >>> report.scores["severity"].tolist()
    [0.0, 0.5, 1.0]
    """
    pandas = require("pandas", "evaluate_robustness")
    check_model(model, function=True)
    chosen = as_scores(scores)
    seed_numbers = _as_seeds(seeds)
    protocols = as_protocols(corruptions, severities)
    inputs, y = _read(model, x, y)
    names = [name for name in inputs if name != MASK]
    # Who is corrupted is drawn before the first prediction: a corruption that
    # names an unknown modality, or lacks labels, is found now.
    for protocol in protocols:
        corruption = protocol.at(protocol.severities[0])
        labels = y if corruption.needs_labels else None
        corruption.corrupted(inputs, seed_numbers[0], labels)
    jobs = [
        (protocol, severity, seed)
        for protocol in protocols
        for severity in protocol.severities
        for seed in seed_numbers
    ]
    samples = _samples(inputs)
    ranges = Ranges(inputs, training or {})
    predict = _predictor(model, names, samples, batch_size)
    output, first = _clean(predict(inputs), output, y, inputs, bins)
    labels, classes = first.labels, first.probabilities.shape[1]
    _warn_of_absent(labels, classes)
    rows: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    kept: list[Array] = []
    bar = keras.utils.Progbar(len(jobs) + 1, verbose=int(bool(verbose)))
    answers = _answers(
        predict, inputs, ranges, output, first, jobs, seed_numbers[0]
    )
    for key, predictions in answers:
        rows.append({**key, "samples": samples, **_row(chosen, predictions)})
        _warn_of_invalid(rows[-1])
        place = {name: key[name] for name in POINT[:3]}
        points += [{**place, **point} for point in curves(predictions)]
        if keep_predictions:
            kept.append(predictions.probabilities.astype("float32"))
        bar.add(1)
    info = {
        **_info(model, inputs, classes, samples, bins, protocols),
        "scores": [score.describe() for score in chosen],
    }
    return RobustnessReport(
        pandas.DataFrame(rows),
        pandas.DataFrame(points, columns=POINT),
        info,
        predictions=kept if keep_predictions else None,
        labels=labels if keep_predictions else None,
    )


def _clean(
    answer: ArrayLike, output: str, y: Labels, inputs: Modalities, bins: int
) -> tuple[str, Predictions]:
    """Settle on the clean data what the model returns, and which labels."""
    kind, values = read_outputs(answer, output)
    count, classes = values["probabilities"].shape
    samples = _samples(inputs)
    if count != samples:
        raise ValueError(
            f"`model` must return one row for each of the {samples} samples. "
            f"Received: {count} rows"
        )
    predictions = Predictions(
        labels=check_labels(to_numpy(y), classes, samples),
        present=inputs[MASK].astype(bool) if MASK in inputs else None,
        modality_names=[name for name in inputs if name != MASK],
        bins=bins,
        **values,
    )
    return kind if predictions.valid.any() else output, predictions


def _answers(
    predict: Predict,
    inputs: Modalities,
    ranges: Ranges,
    output: str,
    clean: Predictions,
    jobs: Sequence[Job],
    seed: int,
) -> Iterator[tuple[dict[str, Any], Predictions]]:
    """The first columns of each row of the report, and the predictions."""
    key = {"corruption": "clean", "severity": 0.0, "seed": seed}
    yield {**key, "in_range": True}, clean
    for protocol, severity, seed in jobs:
        corruption = protocol.at(severity)
        corrupted = corruption(inputs, seed, clean.labels)
        _, values = read_outputs(predict(corrupted), output)
        hidden = _hidden(corruption, inputs, seed, clean.labels)
        key = {
            "corruption": protocol.name,
            "severity": severity,
            "seed": seed,
            "in_range": corruption.in_range and ranges.hold(corrupted),
        }
        yield key, dataclasses.replace(clean, **values, corrupted=hidden)


def _row(scores: Sequence[Score], predictions: Predictions) -> dict[str, float]:
    row = {"invalid": float((~predictions.valid).sum())}
    for score in scores:
        row.update(score.columns(predictions))
    return row


def _warn_of_absent(labels: Array, classes: int) -> None:
    absent = sorted(set(range(classes)) - set(labels.tolist()))
    if absent:
        warn(
            f"`y` holds no sample of class {absent}: F1 is averaged over the "
            "classes that are there, and AUROC needs two."
        )


def _warn_of_invalid(row: dict[str, Any]) -> None:
    if row["invalid"]:
        warn(
            f"The predictions under '{row['corruption']}' at severity "
            f"{row['severity']:g} (seed {row['seed']}) are NaN or infinite "
            f"for {row['invalid']:.0f} of {row['samples']} samples; the "
            "scores of this row are NaN."
        )


def _as_seeds(seeds: int | Sequence[int]) -> list[int]:
    if isinstance(seeds, list | tuple | range):
        chosen = [Integer(0)("seed", seed) for seed in seeds]
    else:
        chosen = list(range(Integer(1)("seeds", seeds)))
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(
            "`seeds` must be a positive integer or a sequence of different "
            f"seeds. Received: seeds={seeds!r}"
        )
    return chosen


def _samples(inputs: Modalities) -> int:
    """Number of samples."""
    return len(keras.tree.flatten(inputs)[0])


def _read(
    model: Model, x: Modalities, y: Labels
) -> tuple[dict[str, Any], Labels]:
    """The inputs as arrays, in the order in which the model has them.

    Texts are arrays of objects, and what has several arrays is a dict.
    """
    if not isinstance(x, Mapping) or not set(x) - {MASK}:
        raise ValueError(
            "`x` must be a non-empty dict of modality names to arrays (of a "
            f"`MediaTable`: its `arrays()`). Received: {type(x).__name__}"
        )
    check_rows_agree({**{f"Modality '{n}'": v for n, v in x.items()}, "`y`": y})
    texts = {n: as_texts(v) for n, v in x.items() if is_text(v)}
    rest = {name: v for name, v in x.items() if name not in texts}
    names = [name for name in x if name != MASK]
    rest, y, _ = read_tables(rest, y, names=names)
    arrays = {
        name: texts[name] if name in texts else map_parts(to_numpy, rest[name])
        for name in x
    }
    leaves = {
        f"{name}/{part}" if part else name: array
        for name, value in arrays.items()
        for part, array in parts_of(value).items()
    }
    wrong = {
        name: f"shape={array.shape}, dtype={array.dtype}"
        for name, array in leaves.items()
        if name not in texts
        and (array.ndim == 0 or array.dtype.kind not in "biuf")
    }
    if wrong:
        raise ValueError(
            "`x` must hold arrays of numbers, one row a sample. Received: "
            f"{wrong}"
        )
    lengths = {name: len(array) for name, array in leaves.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(
            "`x` must hold the same positive number of samples in every "
            f"entry. Received: {lengths}"
        )
    # As the corruptions do, so that all test sets have one dtype.
    arrays = {
        name: array
        if name == MASK
        or not is_numbers(array)
        or array.dtype.kind == "f"
        or is_pixels(array)
        else array.astype("float32")
        for name, array in arrays.items()
    }
    order = getattr(model, "modality_names", None)
    if order is not None and set(order) - set(arrays):
        missing = [name for name in order if name not in arrays]
        unknown = [n for n in arrays if n not in order and n != MASK]
        raise ValueError(
            f"`x` must have all modalities of the model, {list(order)}. "
            f"Received: {list(arrays)} (missing: {missing}, unknown: {unknown})"
        )
    if order is None or MASK in arrays or set(order) != set(arrays):
        return arrays, y
    return {name: arrays[name] for name in order}, y


def _predictor(
    model: Model, names: list[str], samples: int, batch_size: int
) -> Predict:
    """Return a function that predicts every test set by the same program."""
    told = takes_mask(model)

    def predict(x: Modalities) -> ArrayLike:
        inputs = dict(x)
        if not told:
            inputs.pop(MASK, None)
        elif MASK not in inputs:
            # Always there, so that its first appearance compiles nothing.
            inputs[MASK] = np.ones((samples, len(names)), "float32")
        if not hasattr(model, "predict"):
            return model(inputs)
        return model.predict(inputs, batch_size=batch_size, verbose=0)

    return predict


def _hidden(
    corruption: Corruption, inputs: Modalities, seed: int, labels: Array
) -> Array | None:
    """What is corrupted; nothing is to be found where the mask says so."""
    if corruption.announced:
        return None
    return corruption.corrupted(inputs, seed, labels)


def _info(
    model: Model,
    inputs: Modalities,
    classes: int,
    samples: int,
    bins: int,
    protocols: list[NoiseProtocol],
) -> dict[str, Any]:
    return {
        "model": getattr(model, "name", type(model).__name__),
        "modalities": [name for name in inputs if name != MASK],
        "classes": classes,
        "samples": samples,
        "bins": bins,
        "protocols": [
            {**p.describe(), "applies_to": p.corruption.applies_to(inputs)}
            for p in protocols
        ],
        "versions": {
            "keras": keras.__version__,
            "backend": keras.config.backend(),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
