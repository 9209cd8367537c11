import contextlib
import math
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_mmrel import _exporting
from keras_mmrel.constraints import SAMPLES
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import CONFIDENCE
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Model
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import is_pixels
from keras_mmrel.contract import to_numpy
from keras_mmrel.evaluation._calibration import Limits
from keras_mmrel.evaluation._calibration import Wanted
from keras_mmrel.evaluation._calibration_data import CalibrationData
from keras_mmrel.evaluation._checks import OPEN_FRACTION
from keras_mmrel.evaluation._checks import check_model
from keras_mmrel.evaluation._checks import takes_mask
from keras_mmrel.evaluation._decide import class_probabilities
from keras_mmrel.evaluation._decide import missing_modalities
from keras_mmrel.evaluation._decide import most_likely
from keras_mmrel.evaluation._decide import row_of_group
from keras_mmrel.evaluation._decision_inputs import GROUP
from keras_mmrel.evaluation._decision_inputs import NO_GROUP
from keras_mmrel.evaluation._decision_inputs import complete
from keras_mmrel.evaluation._decision_inputs import group_codes
from keras_mmrel.evaluation._decision_inputs import one_sample
from keras_mmrel.evaluation._drift import compare_confidences
from keras_mmrel.evaluation._explanation import explain_decision
from keras_mmrel.evaluation._range_excess import range_excess
from keras_mmrel.evaluation.drift_report import DriftReport
from keras_mmrel.state import add_state
from keras_mmrel.user_warning import warn

# Of a modality that is missing, where confidences are kept.
MISSING = -1.0


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    samples=SAMPLES,
    temperature=Number(0, low_open=True),
    false_alarm=OPEN_FRACTION,
)
class Decision(keras.Model):
    """A trained model with all that decides: a label, or that it abstains.

    `Decision.fit` makes one from calibration samples, which the model has
    neither been trained nor chosen on. It is a Keras model of its own: one
    file, which loads on every backend and has what a device needs.

    Inputs are those of the model: a dict of modalities, maybe with
    `"modality_mask"`. Outputs are a dict, with `M` modalities, `K` classes:

    - `label`: `(batch,)`, int32, the most likely class.
    - `probability`: `(batch,)`, its probability at the temperature found.
    - `accept`: `(batch,)`, boolean, whether the label may be used. Of what is
      accepted at most `risk` is wrong, with a probability of `1 - delta` over
      the calibration samples (`selective_prediction`).
    - `prediction_set`: `(batch, K)`, boolean. The true class is in it with a
      probability of at least `coverage` (`ConformalSets`).
    - `suspect`: `(batch, M)`, boolean, whether the model's `confidence` in a
      modality is lower than clean samples let expect: of those, at most a
      fraction of `false_alarm` is suspect.
    - `confidence`: `(batch, M)` in [0, 1], as the model returns it.
    - `out_of_range`: `(batch, M)`, boolean, whether its values leave the
      range of the calibration samples by more than one of these leaves that
      of the others; of clean samples, at most `false_alarm` do.
    - `missing`: `(batch, M)`, boolean: masked, or not finite. What is missing
      is neither suspect nor out of range. Without any modality nothing is
      accepted, and every class is possible.

    **What is promised** supposes that new samples are exchangeable with the
    calibration samples (for `risk`: independent draws of one distribution):
    the same sensors, the same people, the same fraction of missing modalities.
    Under a shift all of it is void; `drift` looks for one. Coverage and false
    alarms hold on average over calibration samples as well as new ones, each
    modality by itself: of `M`, up to `M * false_alarm` of clean samples have
    one that is suspect. `label`, `accept` and `prediction_set` do not depend
    on what is suspect: that a model is to rely on good modalities is its own
    task.

    **Groups**. With `groups` (hospitals, speakers), each has limits of its own
    and all is promised within each group by itself, however large it is. The
    group of a sample is then an input, `"group"` `(batch,)`: a whole number, or
    in `predict`, `evaluate`, `drift` and `explain` a string, too; strings are
    numbered in sorted order, as `groups` has them. A sample without a group,
    or of one that calibration had not, gets the limits of all samples
    together, whose promise is about that mixture of groups and about no new
    one.

    **Few samples**. What cannot be promised is not: below the number that a
    promise takes, nothing is accepted, sets hold every class and no alarm is
    raised. `fit` says so.

    Own choices of this library: predictions are ordered by what is left to
    other classes, `1 - p`, which tells those apart whose probability is
    rounded to 1; sets are those of `ConformalSets(method="threshold")`, always
    with the most likely class; a fifth of the samples fits the temperature and
    takes no part in rules and sets, which suppose that it was not chosen on
    their samples; a feature counts as far as it is out of range, in widths of
    the range, up to 10, and those of a modality are summed up. A sample's sum
    is compared with those that calibration samples have against the range of
    all others: no further sample can make these larger, so the limit holds
    for any number of samples and features. Integers (but bytes of pictures),
    sequences and modalities of varying shape have no range.

    Nobody makes one by the constructor: its arguments are what a file holds.
    A decision is not trained, so `fit` is no method of training here, and the
    model in it should not be trained any further.

    Args:
        model: The model.
        shapes: Modality name -> shape of a sample.
        samples: Number of calibration samples.
        limits: What decides for all samples, then for each group.
        ranged: Names of the modalities that have a range.
        groups: Sorted groups, whole numbers or strings.
        temperature: Positive number.
        false_alarm: As in `fit`.
        **kwargs: Arguments of `keras.Model`, such as `name`.

    Attributes:
        limits: One object for all samples, then one a group, with `rule` (a
            `SelectiveRule`), `sets` (`ConformalSets`), and the limits of
            `confidence` and `excess` of range by modality.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(600) % 3
    >>> x = {m: 2 * y[:, None] + rng.normal(size=(600, 8)) for m in ("a", "b")}
    >>> part = lambda rows: {name: v[rows] for name, v in x.items()}
    >>> model = keras_mmrel.LateFusion({"a": (8,), "b": (8,)}, 3)
    >>> model.compile(keras.optimizers.Adam(0.02))
    >>> history = model.fit(part(slice(300)), y[:300], epochs=5, verbose=0)
    >>> decision = keras_mmrel.evaluation.Decision.fit(
    ...     model, part(slice(300, 550)), y[300:550]
    ... )
    >>> new = part(slice(550, 600))
    >>> new["b"] = new["b"] + 20.0
    >>> out = decision.predict(new, verbose=0)
    >>> out["prediction_set"].shape, out["suspect"].shape
    ((50, 3), (50, 2))
    >>> bool(out["out_of_range"][:, 1].all())
    True
    >>> decision.drift(new).changed
    ['b']

    References:

    - Geifman and El-Yaniv, "Selective Classification for Deep Neural
      Networks", NeurIPS 2017, https://arxiv.org/abs/1705.08500
    - Angelopoulos and Bates, "A Gentle Introduction to Conformal Prediction
      and Distribution-Free Uncertainty Quantification", 2021,
      https://arxiv.org/abs/2107.07511
    - Vovk, "Conditional Validity of Inductive Conformal Predictors", 2012,
      https://arxiv.org/abs/1209.2673, for groups.
    - Bates et al., "Testing for Outliers with Conformal p-values", 2021,
      https://arxiv.org/abs/2104.08279, for limits on clean data.
    - Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
      https://arxiv.org/abs/1706.04599
    """

    def __init__(
        self,
        model: Model,
        shapes: Mapping[str, Any],
        samples: int,
        limits: Sequence[Limits],
        ranged: Sequence[str] = (),
        groups: Sequence[int | str] = (),
        temperature: float = 1.0,
        false_alarm: float = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        check_model(model)
        self.model = model
        self.shapes = dict(shapes)
        self.samples = samples
        self.limits = list(limits)
        self.ranged = list(ranged)
        self.groups = list(groups)
        self.temperature = temperature
        self.false_alarm = false_alarm
        self.modality_names = list(shapes)
        count = len(self.modality_names)
        # What new confidences are compared with.
        self.known_confidence = add_state(
            self, "known_confidence", (samples, count)
        )
        self.known_rows = add_state(self, "known_rows", (samples,))
        self.lows, self.highs = {}, {}
        for index, name in enumerate(self.ranged):
            size = (math.prod(self.shapes[name]),)
            self.lows[name] = add_state(self, f"low_{index}", size)
            self.highs[name] = add_state(self, f"high_{index}", size)

    # -- Calibration ---------------------------------------------------------

    @classmethod
    @constrained(
        risk=OPEN_FRACTION,
        coverage=OPEN_FRACTION,
        false_alarm=OPEN_FRACTION,
        delta=OPEN_FRACTION,
        temperature=Either(Number(0, low_open=True), None),
        seed=Integer(0),
    )
    def fit(
        cls,
        model: Model,
        x_calibration: Modalities,
        y_calibration: Labels,
        risk: float = 0.05,
        coverage: float = 0.9,
        groups: ArrayLike = None,
        false_alarm: float = 0.05,
        delta: float = 0.05,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Self:
        """Learn a decision from calibration samples.

        Args:
            model: A trained model of this library, or any Keras model of a
                dict of modalities that returns `"logits"` and, in [0, 1],
                `"confidence"` `(samples, modalities)`.
            x_calibration: Dict of modality name -> clean array
                `(samples, ...)`, maybe with `"modality_mask"`.
            y_calibration: Class numbers `(samples,)`, or one-hot rows.
            risk: Largest fraction of mistakes among accepted samples, in
                (0, 1).
            coverage: Fraction of samples whose set holds the true class, in
                (0, 1).
            groups: `None`, or the group of each sample `(samples,)`: strings,
                or whole numbers from 0 on.
            false_alarm: Largest fraction of clean samples in which a modality
                is suspect, and in which it is out of range, in (0, 1).
            delta: Probability, in (0, 1), with which the calibration samples
                may mislead about `risk`.
            temperature: `None` to fit it on a fifth of the samples, or a
                positive number that was found otherwise, 1 for none: then all
                samples teach rules and sets.
            seed: Non-negative integer, of the draw of that fifth.

        Returns:
            A `Decision`. A warning says what few samples cannot promise.

        Raises:
            ValueError: If an argument is not as above.
        """
        check_model(model)
        data = CalibrationData(model, x_calibration, y_calibration, groups)
        temperature, limits = data.learn(
            Wanted(risk, coverage, false_alarm, delta), temperature, seed
        )
        decision = cls(
            model,
            shapes=data.shapes,
            samples=len(data.labels),
            limits=limits,
            ranged=list(data.ranges),
            groups=data.groups,
            temperature=temperature,
            false_alarm=false_alarm,
        )
        decision.known_confidence.assign(
            np.where(data.missing, MISSING, data.confidence)
        )
        decision.known_rows.assign(data.rows)
        for name, fitted in data.ranges.items():
            decision.lows[name].assign(fitted.low)
            decision.highs[name].assign(fitted.high)
        decision.built = True
        decision._warn()
        return decision

    def describe(self) -> dict[str, Any]:
        """Return what is promised and what decides, as JSON takes it.

        Returns:
            Dict of the `temperature`, the number of calibration `samples`,
            the rate of a `false_alarm` and, in `limits`, a dict for all
            samples and one for each group: `group`, `None` for all; the
            `risk` that was asked for, `delta`, the `bound` found and the
            fraction that is `accepted` of the `samples` that taught the rule;
            the `coverage`; the limits of `probability`, `confidence` and
            `excess`, `None` where there is none; and `doubts`, sentences
            about what is not promised.
        """
        groups = [None, *self.groups]
        return {
            "temperature": self.temperature,
            "samples": self.samples,
            "false_alarm": self.false_alarm,
            "limits": [
                {"group": group, **limits.describe()}
                for group, limits in zip(groups, self.limits, strict=True)
            ],
        }

    def _warn(self) -> None:
        """Say what is not promised, and why."""
        doubts = [
            doubt if row == 0 else f"of group {self.groups[row - 1]!r}, {doubt}"
            for row, limits in enumerate(self.limits)
            for doubt in limits.doubts
        ]
        if doubts:
            warn(
                f"These {self.samples} calibration samples do not allow every "
                f"promise: {'; '.join(doubts)}."
            )

    # -- Deciding ------------------------------------------------------------

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Tensor]:
        rest = inputs
        if self.groups:
            rest = {n: v for n, v in inputs.items() if n != GROUP}
        outputs = self.model(rest, training=False)
        missing = missing_modalities(rest, self.modality_names)
        present = ops.logical_not(missing)
        answered = ops.any(present, axis=1)
        p = class_probabilities(outputs[LOGITS], self.temperature, answered)
        label, probability, left, is_label = most_likely(p)
        row = self._rows(inputs, label)
        confidence = ops.cast(outputs[CONFIDENCE], "float32")
        accept = left < self._limit(row, [r.left for r in self.limits])
        held = p >= self._limit(row, [r.share for r in self.limits])[:, None]
        everything = ops.logical_not(answered)[:, None]
        lowest = [self._by_modality(r.confidence, 0.0) for r in self.limits]
        largest = [self._by_modality(r.excess, np.inf) for r in self.limits]
        excess = self._excess(rest, probability)
        return {
            "label": label,
            "probability": probability,
            "accept": ops.logical_and(accept, answered),
            "prediction_set": ops.logical_or(
                ops.logical_or(held, is_label), everything
            ),
            "suspect": ops.logical_and(
                confidence < self._limit(row, lowest), present
            ),
            CONFIDENCE: confidence,
            "out_of_range": ops.logical_and(
                excess > self._limit(row, largest), present
            ),
            "missing": missing,
        }

    def _rows(self, inputs: Modalities, label: Tensor) -> Tensor:
        """Place of the limits of each sample, `(batch,)`."""
        if not self.groups or inputs.get(GROUP) is None:
            return ops.zeros_like(label)
        return row_of_group(inputs[GROUP], group_codes(self.groups))

    def _limit(self, row: Tensor, table: Sequence[Any]) -> Tensor:
        """Row of a table for each sample, `(batch, ...)`."""
        # Of rows, since ONNX has not what PyTorch does to take of a vector.
        rows = ops.convert_to_tensor(
            np.reshape(table, (len(table), -1)), "float32"
        )
        taken = ops.take(rows, row, axis=0)
        return taken[:, 0] if np.ndim(table) == 1 else taken

    def _by_modality(
        self, limits: Mapping[str, float | None], none: float
    ) -> list[float]:
        found = [limits[name] for name in self.modality_names]
        # In float32: what a tensor makes of infinity, a converter may not.
        most = float(np.finfo("float32").max)
        return [min(none, most) if v is None else v for v in found]

    def _excess(self, inputs: Modalities, like: Tensor) -> Tensor:
        """How far each modality is out of range, `(batch, modalities)`."""
        columns = []
        for name in self.modality_names:
            if name not in self.ranged:
                columns.append(ops.zeros_like(like))
                continue
            x = ops.convert_to_tensor(inputs[name])
            scale = 255.0 if is_pixels(x) else 1.0
            low = ops.convert_to_tensor(self.lows[name])
            high = ops.convert_to_tensor(self.highs[name])
            x = ops.reshape(ops.cast(x, "float32"), (-1, low.shape[0])) / scale
            columns.append(range_excess(x, low, high))
        return ops.stack(columns, axis=1)

    # -- Running -------------------------------------------------------------

    def predict(
        self,
        x: DataSource,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        **kwargs: Any,
    ) -> dict[str, Array]:
        """Decide as `keras.Model.predict` predicts, in batches.

        Args:
            x: Dict of arrays, in which a modality that is not there is
                missing and `"group"` may hold what `fit` had in `groups`; or
                a pipeline of such batches, with whole numbers for groups.
            batch_size: As in `keras.Model.predict`.
            verbose: Likewise.
            steps: Likewise.
            **kwargs: Other arguments of `keras.Model.predict`.

        Returns:
            Dict of the outputs, as arrays.
        """
        x = self._complete("x", x)
        return super().predict(x, batch_size, verbose, steps, **kwargs)

    def evaluate(self, x: Modalities, y: Labels, **kwargs: Any) -> dict:
        """Return what became of the promises on labelled samples.

        Args:
            x: As in `predict`, but no pipeline.
            y: Class numbers `(samples,)`, or one-hot rows.
            **kwargs: Arguments of `predict`.

        Returns:
            Dict of fractions: `accuracy` of all labels; `accepted`; `risk`,
            the mistakes among those, NaN without any; `coverage` of the true
            class by the sets; `set_size`, the mean number of classes; and, by
            modality, `suspect`, `out_of_range` and `missing`, the first two
            of the samples that have it.
        """
        outputs = self.predict(x, **{"verbose": 0, **kwargs})
        sets = outputs["prediction_set"]
        labels = check_labels(to_numpy(y), sets.shape[1], len(sets))
        wrong, accepted = outputs["label"] != labels, outputs["accept"]
        there = np.maximum((~outputs["missing"]).sum(axis=0), 1)
        rates = {
            "suspect": outputs["suspect"].sum(axis=0) / there,
            "out_of_range": outputs["out_of_range"].sum(axis=0) / there,
            "missing": outputs["missing"].mean(axis=0),
        }
        return {
            "accuracy": float(1.0 - wrong.mean()),
            "accepted": float(accepted.mean()),
            "risk": float(wrong[accepted].mean()) if accepted.any() else np.nan,
            "coverage": float(sets[np.arange(len(labels)), labels].mean()),
            "set_size": float(sets.sum(axis=1).mean()),
            **{
                name: dict(zip(self.modality_names, v.tolist(), strict=True))
                for name, v in rates.items()
            },
        }

    def explain(self, sample: Modalities) -> dict[str, Any]:
        """Say what is decided about one sample, and why.

        Args:
            sample: Dict of modality name -> array of one sample, with or
                without the batch axis, maybe with a mask and a group. A
                modality that is not there is missing.

        Returns:
            Dict that JSON takes. Its `sentence` says the same in words, with
            the names of the model's classes where it has such.

        Raises:
            ValueError: If `sample` holds anything else, or several samples.
        """
        batch = one_sample(sample, self.shapes)
        batch = self._complete("sample", batch)
        outputs = super().predict(batch, verbose=0)
        row = self._place(batch, 1)[0]
        limits = self.limits[row]
        return explain_decision(
            {name: values[0] for name, values in outputs.items()},
            self.modality_names,
            getattr(self.model, "class_names", None),
            {
                "probability": limits.probability,
                "confidence": limits.confidence,
                "group": self.groups[row - 1] if row else None,
            },
        )

    @constrained(
        level=OPEN_FRACTION, permutations=Integer(1, 10**6), seed=Integer(0)
    )
    def drift(
        self,
        x: Modalities,
        level: float = 0.05,
        permutations: int = 999,
        seed: int = 0,
    ) -> DriftReport:
        """Say which modalities are trusted otherwise than in calibration.

        The confidences of each modality are compared with those of the
        calibration samples that have it, by a permutation test of Kolmogorov
        and Smirnov's distance, and Holm's method takes care of their number:
        a stream that has not changed is said to have changed, in any
        modality, with a probability of at most `level`. That holds for any
        number of samples, if these are exchangeable with the calibration
        samples: not for neighbouring frames of a video. Each call has that
        rate by itself. Samples of a group are compared with that group.

        A change that leaves confidences as they are is not found, and one
        that is found need not cost accuracy.

        Args:
            x: As in `predict`: samples of the stream.
            level: Rate of false alarms, in (0, 1).
            permutations: Positive integer, of each test; the smallest p-value
                is `1 / (1 + permutations)`.
            seed: Non-negative integer, of the permutations.

        Returns:
            A `DriftReport`. A warning says if there are too few samples for
            any change to be found.

        Raises:
            ValueError: If an argument is not as above.

        References:

        - Phipson and Smyth, "Permutation P-values Should Never Be Zero",
          2010, https://arxiv.org/abs/1603.05766
        - Holm, "A Simple Sequentially Rejective Multiple Test Procedure",
          Scandinavian Journal of Statistics 1979.
        """
        x = self._complete("x", x)
        outputs = super().predict(x, verbose=0)
        known = ops.convert_to_numpy(self.known_confidence).astype("float64")
        rows = ops.convert_to_numpy(self.known_rows).astype("int64")
        new = outputs[CONFIDENCE].astype("float64")
        new[outputs["missing"]] = np.nan
        return compare_confidences(
            self.modality_names,
            (np.where(known == MISSING, np.nan, known), rows),
            (new, self._place(x, len(new))),
            level,
            permutations,
            seed,
        )

    def _complete(self, argument: str, x: DataSource) -> DataSource:
        """Inputs with all keys, so that one compiled program serves all."""
        return complete(
            argument, x, self.shapes, self.groups, takes_mask(self.model)
        )

    def _place(self, x: DataSource, count: int) -> Array:
        """Place of the group of each sample of complete inputs."""
        if not self.groups or not isinstance(x, Mapping):
            return np.zeros(count, "int64")
        numbers = ops.convert_to_tensor(x[GROUP])
        found = row_of_group(numbers, group_codes(self.groups))
        return ops.convert_to_numpy(found).astype("int64")

    # -- Saving --------------------------------------------------------------

    def build(self, input_shape: Any = None) -> None:
        self.built = True

    def get_build_config(self) -> dict | None:
        return {}

    def build_from_config(self, config: dict) -> None:
        self.build()

    def get_config(self) -> dict[str, Any]:
        model = keras.saving.serialize_keras_object(self.model)
        # A decision trains nothing, and needs no compiler's settings.
        model.pop("compile_config", None)
        config = super().get_config()
        config.pop("autocast", None)
        return {
            **config,
            "model": model,
            "shapes": dict(self.shapes),
            "samples": self.samples,
            "limits": [limits.get_config() for limits in self.limits],
            "ranged": list(self.ranged),
            "groups": list(self.groups),
            "temperature": self.temperature,
            "false_alarm": self.false_alarm,
        }

    @classmethod
    def from_config(
        cls, config: dict, custom_objects: dict | None = None
    ) -> "Decision":
        model = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        limits = [Limits.from_config(c) for c in config["limits"]]
        return cls(**{**config, "model": model, "limits": limits})

    def save(self, *args: Any, **kwargs: Any) -> None:
        with self._without_optimizer():
            super().save(*args, **kwargs)

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        modality_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write the decision as a file that runs without Keras.

        Inputs and outputs have the names that they have in Python. A modality
        of NaN is missing.

        Args:
            filepath: A folder for a SavedModel, else a file with the ending
                of its format: `.onnx`, `.xml` (OpenVINO), `.tflite` (LiteRT)
                or `.pt2` (PyTorch).
            format: `"tf_saved_model"`, `"onnx"`, `"openvino"`, `"litert"` or
                `"torch"`. Which of them a backend can write is up to Keras.
            modality_mask: Whether `"modality_mask"` is an input. In an ONNX
                file it always is, and may be left out, and so may `"group"`,
                which is an input of every file of a decision with groups:
                the number of a group as in `groups`, sorted, or -1.
            **kwargs: Arguments of `keras.Model.export`.

        Raises:
            ValueError: If an argument is none of those, or the model takes
                no mask.
            ImportError: If a package lacks that writes the format.
            RuntimeError: If OpenVINO would compute other numbers than the
                model.
        """
        _exporting.check(self, filepath, format, modality_mask)
        sides = {}
        if takes_mask(self.model):
            sides[MASK] = _exporting.mask_of(len(self.modality_names))
        elif modality_mask:
            raise ValueError(
                "`modality_mask` must be False for a model that takes no "
                f"mask. Received: modality_mask={modality_mask}"
            )
        if self.groups:
            nobody = np.asarray(NO_GROUP, "int32")
            sides[GROUP] = _exporting.Side((), "int32", nobody)
        asked = [name for name in sides if name != MASK or modality_mask]
        _exporting.export(
            self, self.shapes, filepath, format, sides, asked, **kwargs
        )

    @contextlib.contextmanager
    def _without_optimizer(self) -> Iterator[None]:
        """Keep what only a training needs out of a file."""
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is None:
            yield
            return
        self.model.optimizer = None
        try:
            yield
        finally:
            self.model.optimizer = optimizer
