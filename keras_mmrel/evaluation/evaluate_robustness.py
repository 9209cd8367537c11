import platform
import warnings
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.checks import check_choice
from keras_mmrel.corruptions import Corruption
from keras_mmrel.corruptions.checks import MASK
from keras_mmrel.corruptions.checks import check_seed
from keras_mmrel.evaluation._checks import check_labels
from keras_mmrel.evaluation._checks import takes_mask
from keras_mmrel.evaluation._checks import to_numpy
from keras_mmrel.evaluation._imports import needs
from keras_mmrel.evaluation._scores import curves
from keras_mmrel.evaluation._scores import read_outputs
from keras_mmrel.evaluation._scores import score
from keras_mmrel.evaluation.noise_protocol import NoiseProtocol
from keras_mmrel.evaluation.noise_protocol import as_protocols
from keras_mmrel.evaluation.robustness_report import RobustnessReport

DEFAULT = (
    "gaussian_one",
    "gaussian_half",
    "feature_noise",
    "unaligned",
    "missing",
    "missing_unannounced",
)


def evaluate_robustness(
    model: Any,
    x: Mapping[str, Any],
    y: Any,
    corruptions: Any = DEFAULT,
    severities: Any = None,
    seeds: int | Sequence[int] = 1,
    *,
    output: str = "auto",
    bins: int = 15,
    batch_size: int = 256,
    verbose: int = 1,
) -> RobustnessReport:
    """Score a model on clean and on corrupted test data.

    Every corruption is applied at every severity with every seed; the model
    predicts each of these test sets once, by one program, and is neither
    loaded nor compiled anew. All scores come with the report's columns:
    accuracy, macro and weighted F1, AUROC (two classes), negative
    log-likelihood, expected calibration error, Brier score, area under the
    risk-coverage curve and its excess; and where the model returns a
    `"confidence"` per modality its means and how well it finds the corrupted
    modality (AUROC), where it returns a `"depth"` its mean.

    A NaN among the predictions is not averaged away: the row is NaN,
    `invalid` counts the samples, and a warning names the corruption.

    Args:
        model: Any Keras model that takes a dict of modalities, or a function
            from such a dict to outputs. Outputs are an array of shape
            `(samples, classes)` or a dict with `"logits"` or
            `"probabilities"`. A model that does not take `"modality_mask"`
            is not told what is missing.
        x: Dict of modality name -> array, and maybe `"modality_mask"`.
            Integers reach the model as float32, clean as corrupted.
        y: Class numbers `(samples,)` or one-hot rows.
        corruptions: Names of `NOISE_PROTOCOLS`, `NoiseProtocol`s or
            `Corruption`s, in a sequence or a dict by name.
        severities: Sequence of severities for all corruptions, or a dict of
            corruption name -> sequence; by default the protocols' own, and a
            corruption's own.
        seeds: Number of seeds, or a sequence of them: each draws the
            corruption anew.
        output: What the model returns: `"logits"`, `"probabilities"`, or
            `"auto"`, which takes rows that add up to 1 on the clean data for
            probabilities. Of probabilities none counts as less than 1e-12.
        bins: Number of bins of the calibration error.
        batch_size: Number of samples of a prediction step.
        verbose: 0 for no progress bar.

    Returns:
        A `RobustnessReport`.

    Raises:
        ValueError: If an argument is not as above, or a corruption names a
            modality that `x` does not have.
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
    pandas = needs("pandas", "evaluate_robustness")
    needs("sklearn", "evaluate_robustness")
    check_choice("output", output, ("auto", "logits", "probabilities"))
    _check_count("bins", bins)
    _check_count("batch_size", batch_size)
    seeds = _as_seeds(seeds)
    protocols = as_protocols(corruptions, severities)
    inputs = _ordered(model, x)
    names = [name for name in inputs if name != MASK]
    # Who is hit is drawn before the first prediction: a corruption that
    # names an unknown modality is found now.
    for protocol in protocols:
        protocol.at(protocol.severities[0]).hits(inputs, seeds[0])
    samples = len(next(iter(inputs.values())))
    predict = _predictor(model, names, samples, batch_size)
    clean = read_outputs(predict(inputs), output)
    if clean.valid.any():
        output = clean.kind
    if len(clean.probabilities) != samples:
        raise ValueError(
            f"`model` must return one row for each of the {samples} samples. "
            f"Received: {len(clean.probabilities)} rows"
        )
    classes = clean.probabilities.shape[1]
    labels = check_labels(y, classes, samples)
    absent = sorted(set(range(classes)) - set(labels.tolist()))
    if absent:
        warnings.warn(
            f"`y` holds no sample of class {absent}: F1 is averaged over the "
            "classes that are there, and AUROC needs two.",
            stacklevel=2,
        )
    jobs = [
        (protocol, severity, seed)
        for protocol in protocols
        for severity in protocol.severities
        for seed in seeds
    ]
    bar = keras.utils.Progbar(len(jobs) + 1, verbose=int(bool(verbose)))
    present = inputs[MASK].astype(bool) if MASK in inputs else None
    rows: list[dict] = []
    points: list[dict] = []

    def keep(key: dict, predictions: Any, hits: Any = None) -> None:
        row = score(predictions, labels, names, hits, present, bins)
        rows.append({**key, "samples": samples, **row})
        points.extend({**key, **p} for p in curves(predictions, labels, bins))
        if row["invalid"]:
            warnings.warn(
                f"The predictions under '{key['corruption']}' at severity "
                f"{key['severity']:g} (seed {key['seed']}) are NaN or "
                f"infinite for {row['invalid']:.0f} of {samples} samples; "
                "the scores of this row are NaN.",
                stacklevel=3,
            )
        bar.add(1)

    first = {"corruption": "clean", "severity": 0.0, "seed": seeds[0]}
    keep(first, clean)
    for protocol, severity, seed in jobs:
        corruption = protocol.at(severity)
        answer = predict(corruption(inputs, seed=seed))
        keep(
            {"corruption": protocol.name, "severity": severity, "seed": seed},
            read_outputs(answer, output),
            _hidden_hits(corruption, inputs, seed),
        )
    return RobustnessReport(
        pandas.DataFrame(rows),
        pandas.DataFrame(
            points,
            columns=["corruption", "severity", "seed", "curve", "x", "y",
                     "samples"],
        ),
        _info(model, names, classes, samples, bins, protocols),
    )  # fmt: skip


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r}"
        )


def _as_seeds(seeds: Any) -> list[int]:
    if isinstance(seeds, Sequence) and not isinstance(seeds, str):
        chosen = [check_seed(seed) for seed in seeds]
    else:
        _check_count("seeds", seeds)
        chosen = list(range(seeds))
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(
            "`seeds` must be a positive integer or a sequence of different "
            f"seeds. Received: seeds={seeds!r}"
        )
    return chosen


def _ordered(model: Any, x: Any) -> dict[str, np.ndarray]:
    """The inputs as arrays, in the order in which the model has them."""
    if not isinstance(x, Mapping) or not set(x) - {MASK}:
        raise ValueError(
            "`x` must be a non-empty dict of modality names to arrays. "
            f"Received: {type(x).__name__}"
        )
    arrays = {name: to_numpy(values) for name, values in x.items()}
    wrong = {
        name: f"shape={array.shape}, dtype={array.dtype}"
        for name, array in arrays.items()
        if array.ndim == 0 or array.dtype.kind not in "biuf"
    }
    if wrong:
        raise ValueError(
            "`x` must hold arrays of numbers, one row a sample. Received: "
            f"{wrong}"
        )
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(
            "`x` must hold the same positive number of samples in every "
            f"entry. Received: {lengths}"
        )
    # As the corruptions do, so that all test sets have one dtype.
    arrays = {
        name: array
        if name == MASK or array.dtype.kind == "f"
        else array.astype("float32")
        for name, array in arrays.items()
    }
    order = getattr(model, "modality_names", None)
    if order is None or MASK in arrays or set(order) != set(arrays):
        return arrays
    return {name: arrays[name] for name in order}


def _predictor(
    model: Any, names: list[str], samples: int, batch_size: int
) -> Callable[[dict], Any]:
    """Return a function that predicts every test set by the same program."""
    if not hasattr(model, "predict") and not callable(model):
        raise ValueError(
            "`model` must be a Keras model or a function of a dict of "
            f"modalities. Received: model={model!r}"
        )
    told = takes_mask(model)

    def predict(inputs: dict) -> Any:
        inputs = dict(inputs)
        if not told:
            inputs.pop(MASK, None)
        elif MASK not in inputs:
            # Always there, so that its first appearance compiles nothing.
            inputs[MASK] = np.ones((samples, len(names)), "float32")
        if not hasattr(model, "predict"):
            return model(inputs)
        return model.predict(inputs, batch_size=batch_size, verbose=0)

    return predict


def _hidden_hits(
    corruption: Corruption, inputs: dict, seed: int
) -> np.ndarray | None:
    """Who is hit; nothing is to be found where the mask says so."""
    if getattr(corruption, "announce", False):
        return None
    return corruption.hits(inputs, seed)


def _info(
    model: Any,
    names: list[str],
    classes: int,
    samples: int,
    bins: int,
    protocols: list[NoiseProtocol],
) -> dict[str, Any]:
    return {
        "model": getattr(model, "name", type(model).__name__),
        "modalities": names,
        "classes": classes,
        "samples": samples,
        "bins": bins,
        "protocols": [p.describe() for p in protocols],
        "versions": {
            "keras": keras.__version__,
            "backend": keras.config.backend(),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
