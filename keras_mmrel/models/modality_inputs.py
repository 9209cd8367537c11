from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.absent import with_absent
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import largest_value
from keras_mmrel.contract import read_tables
from keras_mmrel.contract import to_numpy
from keras_mmrel.models import _class_names
from keras_mmrel.models import pipelines
from keras_mmrel.models import validation
from keras_mmrel.models._absent import filled_batch
from keras_mmrel.models._batch_form import BatchForm
from keras_mmrel.models._batch_form import read_by
from keras_mmrel.models._scaled import scaling_layers
from keras_mmrel.models.input_ranges import InputRanges
from keras_mmrel.models.side_input import SideInput
from keras_mmrel.models.token_numbers import TokenNumbers
from keras_mmrel.models.uninformative import check_something
from keras_mmrel.models.uninformative import measured
from keras_mmrel.models.uninformative import present_modalities
from keras_mmrel.models.uninformative import warn_of_first_batch

# What a train step puts for a mask that is neither 0 nor 1: `BatchWatch`
# counts it, and the modality is missing.
WRONG_MASK = -(2.0**20)


class ModalityInputs:
    """What a model takes: its modalities, the mask and its side inputs.

    It checks data on the host before the first step, adds the side inputs
    that a training lacks, and prepares tensors in the step.

    Args:
        model: The model, of which it reads `modality_names`,
            `modality_shapes`, `num_classes` and `side_inputs`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        # Names of the columns of the training data, where they have such.
        self.columns: dict[str, list[str]] = {}
        self.ranges = InputRanges()
        self.warned_of_scaling = False
        self.tokens = TokenNumbers(model.modality_specs)
        taken = [s.name for s in self.side_inputs if s.name in self.names]
        if taken:
            raise ValueError(
                f"`modalities` must not be named '{taken[0]}', which is an "
                f"input of {type(model).__name__}. Received: {self.names}"
            )

    @property
    def names(self) -> list[str]:
        return self.model.modality_names

    @property
    def side_inputs(self) -> Sequence[SideInput]:
        return self.model.side_inputs

    def with_absent(self, x: DataSource) -> DataSource:
        """Return inputs in which what is absent is a missing modality."""
        return with_absent(x, self.model.modality_shapes)

    def modalities(self, x: Modalities) -> Modalities:
        """Return the inputs without the side inputs."""
        side = {side.name for side in self.side_inputs}
        return {name: value for name, value in x.items() if name not in side}

    # -- In the step ---------------------------------------------------------

    def prepare(self, inputs: Modalities) -> dict[str, Any]:
        """Empty missing modalities and complete the mask.

        Returns:
            Dict of the modalities, zero where missing, and the float32
            `"modality_mask"` of shape `(batch, n_modalities)`.
        """
        tensors = {
            name: keras.tree.map_structure(ops.convert_to_tensor, inputs[name])
            for name in self.names
        }
        # So whatever judges or cleans inputs sees what an encoder sees.
        for name in self.model.pixel_units.names:
            tensors[name] = self.model.pixel_units.scaled(name, tensors[name])
        if inputs.get(MASK) is None:
            leaf = keras.tree.flatten(tensors)[0]
            one = ops.ones_like(leaf[(..., *[0] * (len(leaf.shape) - 1))])
            mask = ops.stack(
                [ops.cast(one, "float32")] * len(self.names), axis=1
            )
        else:
            mask = ops.convert_to_tensor(inputs[MASK], "float32")
            mask = ops.where(mask == WRONG_MASK, 0.0, mask)
        # What holds no numbers, or never varied, is missing.
        dtype = self.model.compute_dtype
        present = [
            measured(tensors[name], mask[:, index], dtype)
            for index, name in enumerate(self.names)
        ]
        present = self.tokens.present(tensors, present)
        informative = ops.convert_to_tensor(self.model.informative)
        # Keras takes the product with a tensor for a sparse one.
        mask = ops.where(informative > 0, ops.stack(present, axis=1), 0.0)
        prepared = {
            name: keras.tree.map_structure(
                lambda x, present=mask[:, index]: keep_present(x, present),
                tensors[name],
            )
            for index, name in enumerate(self.names)
        }
        return {**prepared, MASK: mask}

    def without_uncounted(self, data: Any) -> Any:
        """Announce all modalities of samples that do not count as missing.

        These are of weight 0, or their label or weight is wrong. So they take
        no part in a training step, whatever it does with the batch:
        statistics, augmentation, coefficients of a modulation. Nor does a
        modality whose mask is neither 0 nor 1.

        Args:
            data: A batch as a train step gets it.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if y is None or not isinstance(x, Mapping):
            return data
        counted = self.model.batch_watch.counted(y, sample_weight)
        mask = x.get(MASK)
        if mask is None:
            mask = ops.repeat(counted, len(self.names), axis=1)
        else:
            mask = ops.convert_to_tensor(mask, "float32")
            known = (mask == 0) | (mask == 1)
            mask = ops.where(known, mask * counted, WRONG_MASK)
        return {**x, MASK: mask}, y, sample_weight

    def side_values(self, x: Modalities) -> dict[str, Tensor]:
        """Values of the side inputs that a training batch has, `(batch,)`.

        Raises:
            ValueError: If a required one is not there.
        """
        values = {}
        for side in self.side_inputs:
            value = x.get(side.name) if isinstance(x, Mapping) else None
            if value is not None:
                value = ops.convert_to_tensor(value)
                value = ops.reshape(ops.cast(value, side.dtype), (-1,))
                # What is no number ends the epoch, and harms no weight.
                if keras.backend.is_float_dtype(side.dtype):
                    value = ops.nan_to_num(value, 0.0, 0.0, 0.0)
                values[side.name] = value
            elif side.required(self.model):
                raise ValueError(self._missing(side, x))
        return values

    # -- Before the first step -----------------------------------------------

    def check_structure(self, x: Modalities) -> None:
        """Refuse inputs of other names, ranks or sizes."""
        plain = self.modalities(x) if isinstance(x, Mapping) else x
        validation.check_structure(plain, self.model.modality_shapes)

    def check(
        self,
        x: DataSource,
        y: Labels = None,
        *,
        fits: bool = False,
        trains: bool = False,
        labelled: bool = False,
        fills: bool = False,
        rows: int | None = None,
        sample_weight: Tensor = None,
        class_weight: dict | None = None,
        validation_split: float = 0.0,
    ) -> None:
        """Refuse data that the model cannot take.

        Args:
            x: Dict of arrays, or a data source.
            y: Labels of a dict of arrays.
            fits: Whether these are all the data of a `fit`, which need labels
                of two classes, and which side inputs are added to.
            trains: Whether they are trained on.
            labelled: Whether labels are needed.
            fills: Whether what batches do not have is missing.
            rows: Number of the first samples that will be used, or `None`.
            sample_weight: Weights of a dict of arrays.
            class_weight: As in `fit`.
            validation_split: As in `fit`.

        Raises:
            ValueError: With the first thing that is wrong.
        """
        if class_weight is not None:
            known = y is not None and isinstance(x, Mapping)
            validation.check_class_weight(
                class_weight,
                self.model.num_classes,
                self._classes(y) if known else (),
            )
            if sample_weight is not None:
                raise ValueError(
                    "`sample_weight` must be None where `class_weight` is "
                    "given. Received: both"
                )
        pipelines.check_source(x)
        _class_names.check(self.model, x)
        batch = pipelines.first_batch(x)
        if batch is not None:
            first_x, first_y, first_weight = batch
            batch = read_tables(first_x, first_y, first_weight, self.names)
            if fills:
                filled = filled_batch(x, batch[0], self.model.modality_shapes)
                batch = (filled, *batch[1:])
            if class_weight is not None and batch[2] is not None:
                raise ValueError(
                    "`class_weight` must be None where batches have sample "
                    "weights. Received: both"
                )
            self.check_batch(
                *batch, labelled=labelled, trains=trains, hints=fits
            )
            if fits:
                warn_of_first_batch(self.model, batch[0], batch[2])
        elif not pipelines.is_pipeline(x):
            labels = self.check_batch(
                x,
                y,
                sample_weight,
                labelled=labelled,
                trains=trains,
                rows=rows,
                whole=True,
                fits=fits,
                hints=fits,
            )
            count = len(keras.tree.flatten(self.modalities(x))[0])
            validation.check_split(count, validation_split)
            if fits and labels is not None:
                validation.check_classes(
                    labels, sample_weight, class_weight, validation_split
                )

    def check_present(self, x: Modalities, sample_weight: Tensor) -> None:
        """Refuse a training batch that has nothing to learn from.

        Weight decay and penalties would move the weights all the same.
        """
        informative = ops.convert_to_numpy(self.model.informative)
        check_something(
            present_modalities(x, self.names, sample_weight) * informative
        )

    def check_predictions(self, x: DataSource, outputs: Any) -> None:
        """Refuse what only the predictions of a pipeline show."""
        first = pipelines.first_batch(x)
        announced = (
            first is None or self.with_absent(first[0]).get(MASK) is not None
        )
        informative = ops.convert_to_numpy(self.model.informative)
        validation.check_predictions(
            outputs,
            np.zeros_like(informative) if announced else informative,
            self.tokens.expected(),
        )

    def checked_validation(
        self,
        training: DataSource,
        data: DataSource,
        form: BatchForm,
        batch_size: int | None = None,
    ) -> DataSource:
        """Return `validation_data`, watched, that the model takes.

        Args:
            training: The training data.
            data: As in `fit`.
            form: What each batch of a pipeline must look like.
            batch_size: `validation_batch_size` of `fit`.
        """
        if data is None:
            return None
        _class_names.check_validation(training, data)
        pipelines.check_beside(data, validation_batch_size=batch_size)
        held = list(data) if isinstance(data, list | tuple) else [data]
        if len(held) not in (1, 2, 3):
            raise ValueError(
                "`validation_data` must be (inputs, labels), maybe with "
                "sample weights, or a pipeline of such batches. Received: "
                f"{type(data).__name__} of {len(held)}"
            )
        x, y, weight = [*held, None, None][:3]
        self.check(x, y, labelled=True, sample_weight=weight)
        return self.watched(data, form, labelled=True, trains=False)

    def check_batch(
        self,
        x: Modalities,
        y: Labels,
        sample_weight: Tensor = None,
        *,
        labelled: bool,
        trains: bool,
        rows: int | None = None,
        whole: bool = False,
        fits: bool = False,
        hints: bool = False,
    ) -> Array | None:
        """Check arrays: a batch of a data source, or all of the data.

        Returns:
            The class numbers `(samples,)`, if there are labels.
        """
        labels = None
        plain = self.modalities(x) if isinstance(x, Mapping) else x
        scaled = scaling_layers(self.model)
        count, sizes = validation.check_arrays(
            plain,
            self.model.modality_shapes,
            rows,
            hints=[n for n in self.names if hints and n not in scaled],
            hint=self.ranges.hint,
            limit=largest_value(self.model.compute_dtype),
            encoded=[
                name
                for name, spec in self.model.modality_specs.items()
                if not isinstance(spec, tuple)
                and name not in self.model.pixel_units.names
            ],
            unit=partial(self.model.pixel_units.unit_of, learns=trains),
        )
        self.tokens.check(plain, rows)
        validation.check_order(plain, self.names)
        if trains:
            self.ranges.see(sizes)
        else:
            self.ranges.compare(sizes, count)
        if sample_weight is not None:
            validation.check_sample_weight(sample_weight, count, whole)
        if y is not None:
            labels = check_labels(
                y, self.model.num_classes, count, soft=True, rows=rows
            )
        elif labelled:
            raise ValueError(
                "`y` must hold a label for each sample. Received: y=None"
            )
        # Prediction and evaluation ignore them.
        for side in self.side_inputs if trains else ():
            self._check_side(side, x, count, fits)
        return labels

    def _classes(self, y: Labels) -> Sequence[int]:
        """Classes that labels have, none if the labels are wrong."""
        try:
            labels = check_labels(y, self.model.num_classes, soft=True)
        except ValueError:
            # What is wrong with them is said after the weights.
            return ()
        return np.unique(labels).tolist()

    def _check_side(
        self, side: SideInput, x: Modalities, count: int, fits: bool
    ) -> None:
        value = x.get(side.name)
        if value is None:
            # `complete` adds what a `fit` with a dict of arrays lacks.
            if not fits and side.required(self.model):
                raise ValueError(self._missing(side, x))
            return
        beside = [n for n in side.instead_of if x.get(n) is not None]
        if beside:
            raise ValueError(
                f"'{side.name}' must not be given beside '{beside[0]}', which "
                f"it stands for. Received: both"
            )
        self._check_values(side, value, count, fits)

    def _check_values(
        self, side: SideInput, value: Any, count: int, fits: bool
    ) -> None:
        if isinstance(value, list | tuple | str):
            raise ValueError(
                f"'{side.name}' must be an array or a tensor. Received: "
                f"{type(value).__name__}"
            )
        values = to_numpy(value)
        if values.shape not in ((count,), (count, 1)):
            raise ValueError(
                f"'{side.name}' must hold one value a sample, of shape "
                f"({count},). Received: shape={values.shape}"
            )
        side.check(self.model, values.reshape(-1))
        if fits:
            side.check_whole(self.model, values.reshape(-1))

    def check_seen(self) -> None:
        """Refuse what an epoch's batches have shown to be no side inputs."""
        seen = self.model.batch_watch.seen()
        for side in self.side_inputs:
            if side.name not in seen:
                continue
            if not seen[side.name].finite:
                raise ValueError(
                    f"'{side.name}' must hold finite numbers. Received: NaN, "
                    "infinite or huge values in batches of this epoch"
                )
            side.check_seen(self.model, seen[side.name])

    def _missing(self, side: SideInput, x: Any) -> str:
        received = list(x) if isinstance(x, Mapping) else type(x).__name__
        return (
            f"Training data of {type(self.model).__name__} must have the "
            f"input '{side.name}', one value a sample; only `fit` with a dict "
            f"of arrays adds it by itself{side.missing}. Received: {received}"
        )

    def form(self) -> BatchForm:
        """What each batch of a pipeline must look like."""
        return BatchForm(
            self.names,
            self.model.modality_shapes,
            [side.name for side in self.side_inputs],
            self.columns,
            self.tokens,
        )

    def watched(
        self,
        x: DataSource,
        form: BatchForm,
        *,
        labelled: bool,
        trains: bool,
        fills: bool = False,
    ) -> DataSource:
        """Let every batch be checked when it is drawn.

        That of an iterator has not been seen before.
        """
        return read_by(
            x,
            form,
            lambda *batch: self.check_batch(
                *batch, labelled=labelled, trains=trains
            ),
            fills,
        )

    def complete(self, x: DataSource, form: BatchForm) -> DataSource:
        """Return the checked data of a `fit`, with their side inputs."""
        x = self.watched(x, form, labelled=True, trains=True)
        if not isinstance(x, Mapping):
            return x
        plain = self.modalities(x)
        count = len(keras.tree.flatten(plain)[0])
        added = {}
        for side in self.side_inputs:
            if x.get(side.name) is None:
                value = side.default(self.model, x, count)
                if value is not None:
                    self._check_values(side, value, count, fits=True)
                    added[side.name] = np.asarray(value, side.dtype)
        return {**x, **added} if added else x


def keep_present(x: Tensor, present: Tensor) -> Tensor:
    """Replace the rows of `x` where `present` (batch,) is 0 by zeros.

    Selecting, not multiplying, so that a NaN goes too.
    """
    present = ops.reshape(present, (-1, *[1] * (len(x.shape) - 1)))
    return ops.where(present > 0, x, 0)
