"""The function that says how much each modality adds."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import PROBABILITIES
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Frame
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Model
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import read_tables
from keras_mmrel.contract import to_numpy
from keras_mmrel.evaluation._checks import check_matrix
from keras_mmrel.evaluation._checks import check_model
from keras_mmrel.evaluation._checks import check_probabilities
from keras_mmrel.evaluation._checks import takes_mask
from keras_mmrel.evaluation._coalitions import masked
from keras_mmrel.evaluation._coalitions import replaced
from keras_mmrel.optional import require
from keras_mmrel.shapley import LARGEST_EXACT
from keras_mmrel.shapley import shapley_weights

SMALLEST = 1e-7


@constrained(
    measure=Choice("accuracy", "log_loss", "information"),
    method=Choice("both", "shapley", "leave_one_out"),
    batch_size=Integer(1),
    verbose=Either(Flag(), Integer(0), "auto"),
)
def modality_contributions(
    model: Model,
    x: Modalities,
    y: Labels,
    measure: str = "accuracy",
    method: str = "both",
    baseline: str | Modalities = "mean",
    batch_size: int = 256,
    verbose: bool | int = 0,
) -> Frame:
    """Say how much each modality adds to a trained model on held-out data.

    The value of a coalition of modalities is how well the model does when it
    gets these alone:

    - `"accuracy"`: the fraction of right predictions;
    - `"log_loss"`: the mean log-probability of the true class, in nats, the
      negative of the log-loss, so that higher is better;
    - `"information"`: the same in bits above the model's answer to no
      modality at all, which is what the model makes use of.

    A modality's Shapley value is the mean of what it adds, over all orders in
    which the modalities may join. The values add up to what all modalities
    have above none. Leaving one out tells what is lost without it, which is
    nearly nothing for each of two modalities that say the same; the two
    together tell redundant modalities from useless ones.

    A model of this library is told by its `"modality_mask"` that a modality
    is missing, and answers with the class prior when all are. In any other
    Keras model the values of a missing modality are replaced by `baseline`,
    the same for every sample. That is a choice: a model that has never seen
    missing data may answer oddly to such an input, and another baseline gives
    other values.

    Up to 6 modalities the Shapley values are exact for the given samples and
    take `2**modalities` predictions of the data. Beyond, they are means over
    64 random orders and their reverses, the same in every call, and still add
    up. One compiled program serves all coalitions. Differences well below
    `1 / sqrt(samples)` are chance.

    Args:
        model: A model of this library, any other with `modality_names` that
            takes a `"modality_mask"`, or a Keras model that takes a dict of
            modalities. It returns probabilities, or a dict that holds
            `"probabilities"` or `"logits"`.
        x: Dict of modality name -> held-out array `(samples, ...)`. It may
            hold a `"modality_mask"` `(samples, modalities)`: what is missing
            there stays missing in every coalition.
        y: Class numbers `(samples,)`, or one-hot rows.
        measure: `"accuracy"`, `"log_loss"` or `"information"`.
            Log-probabilities are cut off at those of 1e-7.
        method: `"both"`, `"shapley"` or `"leave_one_out"`, which takes two
            predictions a modality and two more.
        baseline: For a model without a mask: `"mean"` of each feature in `x`,
            `"zeros"`, or a dict of modality name -> array of one sample's
            shape.
        batch_size: Positive integer.
        verbose: As in `keras.Model.predict`.

    Returns:
        A `pandas.DataFrame` with a row a modality, in the model's order, and
        the columns `modality`, `shapley`, `leave_one_out` and `alone`, the
        value of this modality by itself. Its `attrs` hold `measure`, the
        values of `all` modalities and of `none`, whether Shapley values are
        `exact`, and the number of `samples`.

    Raises:
        ImportError: If pandas is not installed.
        ValueError: If an argument is not as above.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> x = {"a": np.ones((6, 8)), "b": np.ones((6, 4))}
    >>> y = np.array([0, 1, 2, 0, 1, 2])
    >>> table = keras_mmrel.evaluation.modality_contributions(model, x, y)
    >>> list(table.columns)
    ['modality', 'shapley', 'leave_one_out', 'alone']
    >>> float(table["shapley"].sum().round(6))  # constant inputs tell nothing
    0.0

    References:

    - Shapley, "A Value for n-Person Games", Contributions to the Theory of
      Games II, 1953.
    - Xu et al., "A Theory of Usable Information Under Computational
      Constraints", ICLR 2020, https://arxiv.org/abs/2002.10689, for
      `"information"`.
    """
    pd = require("pandas", "modality_contributions")
    check_model(model)
    x, y, _ = read_tables(x, y)
    arrays = _read_inputs(model, x)
    names = [name for name in arrays if name != MASK]
    samples = len(keras.tree.flatten(arrays)[0])
    told = takes_mask(model)
    if MASK in arrays and not told:
        raise ValueError(
            f"`x` must have no '{MASK}' for a model that does not take it. "
            f"Received: {list(arrays)}"
        )
    replacing = replaced(baseline)
    inputs_of = masked if told else replacing
    known: dict[tuple[bool, ...], float] = {}

    def value(coalition: Array) -> float:
        key = tuple(bool(member) for member in coalition)
        if key not in known:
            outputs = model.predict(
                inputs_of(arrays, names, np.array(key), samples),
                batch_size=batch_size,
                verbose=verbose,
            )
            known[key] = _measure(outputs, y, measure, samples)
        return known[key]

    everyone = np.ones(len(names), bool)
    singles = np.eye(len(names), dtype=bool)
    total, none = value(everyone), value(~everyone)
    columns: dict[str, Any] = {"modality": names}
    if method != "leave_one_out":
        members, weights = shapley_weights(len(names))
        gains = np.array([value(coalition) - none for coalition in members])
        columns["shapley"] = weights.astype("float64") @ gains
    if method != "shapley":
        columns["leave_one_out"] = [total - value(~one) for one in singles]
    shift = none if measure == "information" else 0.0
    columns["alone"] = [value(one) - shift for one in singles]
    table = pd.DataFrame(columns)
    table.attrs = {
        "measure": measure,
        "all": total - shift,
        "none": none - shift,
        "exact": len(names) <= LARGEST_EXACT,
        "samples": samples,
    }
    return table


def _read_inputs(model: Model, x: Modalities) -> dict[str, ArrayLike]:
    """Host arrays of the modalities, in the model's order, and the mask."""
    if not isinstance(x, Mapping) or not set(x) - {MASK}:
        raise ValueError(
            "`x` must be a non-empty dict of modality names to arrays (of a "
            f"`MediaTable`: its `arrays()`). Received: {type(x).__name__}"
        )
    x = {name: value for name, value in x.items() if value is not None}
    # Without a mask the order says nothing, and the mask to come has one.
    order = [name for name in x if name != MASK]
    names = list(getattr(model, "modality_names", order))
    if MASK not in x and set(names) == set(order):
        x = {name: x[name] for name in names}
    arrays = {n: keras.tree.map_structure(to_numpy, v) for n, v in x.items()}
    rows = {
        name: [len(a) if a.ndim else 0 for a in keras.tree.flatten(value)]
        for name, value in arrays.items()
    }
    counts = {n for sizes in rows.values() for n in sizes}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(
            "`x` must hold arrays with the same number of samples, at least "
            "one, in every modality. "
            f"Received: {rows}"
        )
    return arrays


def _measure(
    outputs: ArrayLike, y: Labels, measure: str, samples: int
) -> float:
    if (
        isinstance(outputs, Mapping)
        and PROBABILITIES not in outputs
        and LOGITS in outputs
    ):
        z = check_matrix(LOGITS, outputs)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
    elif measure == "accuracy" and not isinstance(outputs, Mapping):
        # Logits have the same largest class.
        p = check_matrix("model.predict(x)", outputs)
    else:
        p = check_probabilities("model.predict(x)", outputs)
    labels = check_labels(to_numpy(y), p.shape[1], samples)
    if measure == "accuracy":
        return float((p.argmax(axis=1) == labels).mean())
    chosen = np.clip(p[np.arange(samples), labels], SMALLEST, 1.0)
    nats = float(np.log(chosen).mean())
    return nats / np.log(2.0) if measure == "information" else nats
