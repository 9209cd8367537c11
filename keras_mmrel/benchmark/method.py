import dataclasses
import functools
import inspect
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import keras
import numpy as np

from keras_mmrel import encoders
from keras_mmrel import layers
from keras_mmrel import models
from keras_mmrel import modulations
from keras_mmrel.benchmark._checks import attempt
from keras_mmrel.benchmark._checks import build
from keras_mmrel.benchmark._checks import choice
from keras_mmrel.benchmark._checks import different_names
from keras_mmrel.benchmark._checks import imported
from keras_mmrel.benchmark._checks import mapping
from keras_mmrel.benchmark._checks import parameters
from keras_mmrel.benchmark._checks import takes
from keras_mmrel.benchmark._checks import within
from keras_mmrel.benchmark._component import Component
from keras_mmrel.benchmark._component import as_component
from keras_mmrel.benchmark._component import own
from keras_mmrel.benchmark._component import plain
from keras_mmrel.benchmark._component import recorded
from keras_mmrel.benchmark._encoders import INPUTS
from keras_mmrel.benchmark._encoders import modality_specs
from keras_mmrel.benchmark._recorded import Recorded
from keras_mmrel.benchmark.regime import Regime
from keras_mmrel.benchmark.training import overrides
from keras_mmrel.benchmark.tuning import Tuning
from keras_mmrel.contract import Layer

# What a run gives to a model, and nobody may fix for all of them.
GIVEN = ("modalities", "num_classes", "augmentation", "quality", "seed")
SHAPES = {"a": (3,), "b": (2,)}
# A function or a class; the path to one is replaced by it.
Factory: TypeAlias = Any
# Options, or a function, by which the path to one is replaced.
Encoder: TypeAlias = Any
KNOWN = [
    name
    for name in models.__all__
    if issubclass(getattr(models, name), models.MultimodalModel)
    and name != "MultimodalModel"
]


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of a comparison: how to make a model, and how to train it.

    Args:
        model: A function of `(modalities, num_classes)`, a class, the name of
            a class of `keras_mmrel.models`, or a path to any other
            (`"my_package.my_module.MyModel"`). It is called as
            `model(modalities, num_classes, **options)`, and gets `seed`,
            `augmentation` and `quality` if it takes them; if not, the engine
            applies the latter two before the model. A model that is no
            `MultimodalModel` keeps the loss that it was compiled with, by
            default the cross-entropy of logits.
        options: Dict of further arguments; `"quality"` is one only as `None`,
            which is to do without the judge that a model has of its own.
        encoder: Encoders of its own: options of
            `keras_mmrel.encoders.MLPEncoder` for vectors, or a function of
            `(name, shape)` that returns what a model takes as an encoder (of
            a modality of several arrays the shape is a dict of shapes), or
            a path to one.
        modulation: How gradients are balanced: an object or name of
            `keras_mmrel.modulations`, `{name: options}`, or a function that
            makes one.
        quality: A layer before the encoders that announces what cannot be
            trusted, such as `keras_mmrel.layers.RangeControl()`; given as a
            modulation is. Before a model that does not take it, it learns
            from the whole clean training part by its `adapt`.
        inputs: `"raw"`; `"standardized"` as the training part, or `"clipped"`
            to three standard deviations. Both belong to the encoder, behind
            the training noise of a regime, which has one unit for all rows.
        modalities: Names of those that the row uses; by default all.
        training: Dict of fields of `Training` that this row replaces.
        tuning: `Tuning` of its own, or a dict of its fields.
        probes: Names of the comparison's probes that the row asks for; by
            default all, with `[]` none.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> row = keras_mmrel.benchmark.Method(
    ...     "LateFusion", {"average": "probabilities"}
    ... )
    >>> row.to_dict()["model"]
    'keras_mmrel.models.LateFusion'
    """

    model: Factory
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    encoder: Encoder = None
    modulation: Any = None
    quality: Any = None
    inputs: str = "raw"
    modalities: Sequence[str] | None = None
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tuning: Any = None
    probes: Sequence[str] | None = None

    def __post_init__(self) -> None:
        put = functools.partial(object.__setattr__, self)
        put("model", _as_model(self.model))
        put(
            "options",
            mapping("options", self.options, self._known(self.options or ())),
        )
        self._check_encoder()
        for name, module in (("modulation", modulations), ("quality", layers)):
            if getattr(self, name) is not None:
                put(name, as_component(name, getattr(self, name), module))
        choice("inputs", self.inputs, INPUTS)
        put("training", overrides("training", self.training))
        if self.tuning is not None:
            put("tuning", build(Tuning, "tuning", self.tuning))
        if self.modalities is not None:
            different_names("modalities", self.modalities)
        if self.probes is not None and self.probes != []:
            different_names("probes", self.probes)
        if self.is_built_in:
            self._check_options()

    @property
    def name(self) -> str:
        """Path of a class, or what a function is called."""
        if inspect.isclass(self.model):
            if self.is_built_in:
                return f"keras_mmrel.models.{self.model.__name__}"
            return f"{self.model.__module__}.{self.model.__qualname__}"
        return own(self.model)

    @property
    def is_built_in(self) -> bool:
        name = getattr(self.model, "__name__", "")
        return name in KNOWN and getattr(models, name) is self.model

    def _known(self, more: Iterable[str] = ()) -> list[str]:
        """Names of options; a function of `**kwargs` takes any."""
        known = [p for p in parameters(self.model) if p not in (*GIVEN, "**")]
        options = self.options if isinstance(self.options, Mapping) else {}
        if options.get("quality", "") is None:
            known.append("quality")
        if "**" in parameters(self.model):
            known += more
        return known

    def _check_encoder(self) -> None:
        options = self.encoder
        if isinstance(options, str):
            options = imported("encoder", options)
            object.__setattr__(self, "encoder", options)
        if options is None or callable(options):
            return
        taken = inspect.signature(encoders.MLPEncoder).parameters
        known = [name for name in taken if name != "kwargs"]
        options = mapping("encoder", options, known)
        attempt("encoder", lambda: encoders.MLPEncoder(**options), options)
        object.__setattr__(self, "encoder", options)

    def _check_options(self) -> None:
        """Make a small model with the options, and with the inputs."""
        attempt("options", lambda: self._small(SHAPES), dict(self.options))
        if self.inputs == "raw":
            return
        base = models.MultimodalModel
        if getattr(self.model, "default_encoder", None) is not getattr(
            base, "default_encoder", None
        ):
            raise ValueError(
                f"`inputs` must be 'raw' for {self.name}, which encodes "
                f"vectors in its own way. Received: {self.inputs!r}"
            )
        rows = {name: np.eye(3, dtype="float32") for name in SHAPES}
        attempt(
            "inputs",
            lambda: self._small(
                modality_specs(rows, self.encoder, self.inputs)
            ),
            self.inputs,
        )

    def _small(self, specs: Any, **options: Any) -> Any:
        return self.model(specs, 2, **{**self.options, **options})

    def check_tuning(self, tuning: Tuning) -> None:
        """Refuse a grid of options that the model does not take."""
        if not tuning.options:
            return
        for option in tuning.options:
            choice("tuning.grid.options", option, self._known(tuning.options))
        if self.is_built_in:
            for candidate in tuning.candidates():
                attempt(
                    "tuning.grid.options",
                    functools.partial(self._small, SHAPES, **candidate.options),
                    candidate.options,
                )

    def layers(
        self, regime: Regime, seed: int
    ) -> tuple[dict[str, Layer], dict[str, Layer]]:
        """Return new layers: those that the model takes, and the others."""
        made = {
            "augmentation": regime.make(seed),
            "quality": self.quality and self.quality.make(),
        }
        taken: dict[str, Layer] = {}
        others: dict[str, Layer] = {}
        for name, layer in made.items():
            if layer is not None:
                where = taken if takes(self.model, name) else others
                where[name] = layer
        return taken, others

    def make(
        self,
        x: Mapping[str, Any],
        num_classes: int,
        options: Mapping[str, Any],
        seed: int,
        **given: Layer,
    ) -> keras.Model:
        """Return a new, untrained model for a training part.

        Args:
            x: Its inputs.
            num_classes: Number of classes.
            options: What tuning has chosen.
            seed: Seed of everything that is drawn.
            **given: Layers that it takes.
        """
        seeds = {"seed": seed} if takes(self.model, "seed") else {}
        specs = modality_specs(x, self.encoder, self.inputs)
        return self.model(
            specs, num_classes, **{**self.options, **options, **given, **seeds}
        )

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Method":
        """Rebuild what `to_dict` described, all that makes a model as names."""
        return cls(
            **{
                **record,
                "model": Recorded(record["model"]),
                "encoder": recorded(record["encoder"]),
                "modulation": Component.recorded(record["modulation"]),
                "quality": Component.recorded(record["quality"]),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what identifies the row in a file."""
        return {
            "model": self.name,
            "options": plain(self.options),
            "encoder": own(self.encoder)
            if callable(self.encoder)
            else plain(self.encoder),
            "modulation": self.modulation and plain(self.modulation.identity),
            "quality": self.quality and plain(self.quality.identity),
            "inputs": self.inputs,
            "modalities": self.modalities and list(self.modalities),
            "training": dict(self.training),
            "tuning": self.tuning and self.tuning.to_dict(),
            "probes": self.probes and list(self.probes),
        }


def as_method(where: str, name: str, entry: Any) -> Method:
    """Take a method, a model, a path, or the fields of a method."""
    if isinstance(entry, Method):
        return entry
    if entry is None or isinstance(entry, Mapping):
        given = {"model": name, **(entry or {})}
        return build(Method, where, given)
    with within(where):
        return Method(entry)


def _as_model(model: Any) -> Callable:
    if isinstance(model, str) and "." in model:
        model = imported("model", model)
    elif isinstance(model, str):
        model = getattr(models, choice("model", model, KNOWN))
    if not callable(model) or isinstance(model, keras.layers.Layer):
        raise ValueError(
            "`model` must be a class, a path to one, or a function of "
            "(modalities, num_classes), as each run makes a model of its own. "
            f"Received: {model!r}"
        )
    return model
