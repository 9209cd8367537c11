import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.encoders import BlockEncoder
from keras_mmrel.encoders import ConvEncoder
from keras_mmrel.encoders import MLPEncoder
from keras_mmrel.models import validation
from keras_mmrel.models.multimodal_trainer import MultimodalTrainer
from keras_mmrel.models.validation import MASK
from keras_mmrel.state import add_state


class MultimodalModel(MultimodalTrainer):
    """Base of every multimodal classifier of the library.

    It takes a dict of modalities, encodes each, knows which are missing, and
    trains with plain `fit` on every backend. A method is a subclass with a
    `call` that ends in `make_outputs`, and, where it needs them, an
    `auxiliary_losses` and an `update_statistics`; its `__init__` ends with
    `self.build_from_modalities()`.

    Inputs are a dict of modality name -> array with the batch first, plus the
    optional key `"modality_mask"` of shape `(batch, n_modalities)`, 1 for a
    modality that is present and 0 for a missing one. What a missing modality
    holds (NaN, say) has no influence on the prediction. A sample whose
    modalities are all missing is answered with the class prior seen in
    training and a confidence of 0.

    Outputs are a dict:

    - `logits`: `(batch, num_classes)`, fused, in float32.
    - `probabilities`: `(batch, num_classes)`, the softmax of `logits`.
    - `modality_logits`: `(batch, n_modalities, num_classes)`.
    - `confidence`: `(batch, n_modalities)` in [0, 1], 0 where missing.
    - `modality_mask`: `(batch, n_modalities)`, the mask that was used.
    - what the method adds as evidence.

    Args:
        modalities: Dict of modality name -> input shape without the batch
            axis (a default encoder is made), or -> a `keras.Layer` or
            `keras.Model` that encodes the modality into `(batch, d)`, or -> a
            list of layers, the blocks of an encoder. Its order is the order
            of `modality_names`.
        num_classes: Integer of at least 2.
        augmentation: `None`, or a layer that takes and returns the dict of
            inputs and is active in training only, such as
            `keras_mmrel.layers.CorruptionAugmentation`.
        auxiliary_loss_names: Names of the terms that `auxiliary_losses`
            returns; each has its own column in `History`.
        **kwargs: Arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
        ValueError: If a name, a shape or `num_classes` is not as above.
    """

    def __init__(
        self,
        modalities: Mapping[str, Any],
        num_classes: int,
        *,
        augmentation: keras.layers.Layer | None = None,
        auxiliary_loss_names: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        validation.check_modalities(modalities)
        validation.check_augmentation(augmentation)
        # Inputs stay in float32: statistics are kept from them, and every
        # layer casts what it takes to its own compute dtype.
        super().__init__(autocast=False, **kwargs)
        self.num_classes = validation.check_num_classes(num_classes)
        self.modality_names = list(modalities)
        self.modality_specs = {
            name: _as_layer_or_shape(spec) for name, spec in modalities.items()
        }
        self.modality_shapes = {
            name: _known_shape(spec)
            for name, spec in self.modality_specs.items()
        }
        self.encoders = [
            spec
            if isinstance(spec, keras.layers.Layer)
            else self.default_encoder(name, spec)
            for name, spec in self.modality_specs.items()
        ]
        self.augmentation = augmentation
        self.modulation = None
        self.auxiliary_trackers = {
            name: keras.metrics.Mean(name=name) for name in auxiliary_loss_names
        }
        self.class_counts = add_state(self, "class_counts", (self.num_classes,))

    # -- Building ------------------------------------------------------------

    def default_encoder(
        self, name: str, shape: tuple[int, ...]
    ) -> keras.layers.Layer:
        """Return the encoder of a modality that is given by its shape."""
        options: dict[str, Any] = {
            "name": encoder_name(name),
            "dtype": self.dtype_policy,
        }
        if len(shape) == 1:
            return MLPEncoder(**options)
        if len(shape) in (2, 3):
            return ConvEncoder(**options)
        raise ValueError(
            f"`modalities['{name}']` must have one to three axes to get a "
            "default encoder; pass a Keras layer for any other. Received: "
            f"shape={shape}"
        )

    def build_from_modalities(self) -> None:
        """Build every weight now, where all input shapes are known.

        A model with an encoder that does not know its input shape is built
        by its first call, like any Keras model.
        """
        if None not in self.modality_shapes.values():
            self.build(_map_shapes(_with_batch, self.modality_shapes))

    def build(self, input_shape: Mapping[str, Any]) -> None:
        shapes = {
            name: self.modality_shapes[name]
            or _map_shapes(lambda s: tuple(s[1:]), input_shape[name])
            for name in self.modality_names
        }
        self.modality_shapes = dict(shapes)
        self.call(
            _map_shapes(lambda s: keras.KerasTensor(_with_batch(s)), shapes)
        )

    def get_build_config(self) -> dict | None:
        if not self.built:
            return None
        return {"shapes": _map_shapes(list, self.modality_shapes)}

    def build_from_config(self, config: dict | None) -> None:
        if config and not self.built:
            self.build(_map_shapes(_with_batch, config["shapes"]))

    # -- Pieces of a method's `call` -----------------------------------------

    def prepare_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Check the inputs, empty missing modalities, complete the mask.

        Returns:
            Dict of the modalities, zero where missing, and the float32
            `"modality_mask"` of shape `(batch, n_modalities)`.
        """
        validation.check_structure(inputs, self.modality_shapes)
        tensors = {
            name: keras.tree.map_structure(ops.convert_to_tensor, inputs[name])
            for name in self.modality_names
        }
        if inputs.get(MASK) is None:
            leaf = keras.tree.flatten(tensors)[0]
            one = ops.ones_like(leaf[(..., *[0] * (len(leaf.shape) - 1))])
            mask = ops.stack(
                [ops.cast(one, "float32")] * len(self.modality_names), axis=1
            )
        else:
            mask = ops.cast(inputs[MASK], "float32")
        prepared = {
            name: keras.tree.map_structure(
                lambda x, present=mask[:, index]: keep_present(x, present),
                tensors[name],
            )
            for index, name in enumerate(self.modality_names)
        }
        return {**prepared, MASK: mask}

    def augment(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> dict[str, Any]:
        """Apply the training-time augmentation, if there is one."""
        if self.augmentation is None or not training:
            return inputs
        return self.augmentation(inputs, training=training)

    def encode(
        self, inputs: Mapping[str, Any], training: bool | None = None
    ) -> list[Any]:
        """Encode prepared inputs into one `(batch, d)` feature a modality.

        The feature of a missing modality is zero.
        """
        features = []
        for index, name in enumerate(self.modality_names):
            feature = self.encoders[index](inputs[name], training=training)
            if len(feature.shape) != 2:
                raise ValueError(
                    f"The encoder of modality '{name}' must return "
                    "(batch, d); wrap a backbone in "
                    "`keras_mmrel.encoders.PooledEncoder`. Received: "
                    f"shape={tuple(feature.shape)}"
                )
            features.append(keep_present(feature, inputs[MASK][:, index]))
        return features

    def make_outputs(
        self,
        logits: Any,
        modality_logits: Any,
        mask: Any,
        confidence: Any = None,
        **evidence: Any,
    ) -> dict[str, Any]:
        """Complete the output dict that every model returns.

        Args:
            logits: Fused logits `(batch, num_classes)`.
            modality_logits: `(batch, n_modalities, num_classes)`.
            mask: `(batch, n_modalities)`.
            confidence: `(batch, n_modalities)` in [0, 1]; by default how far
                each modality's largest probability is above chance.
            **evidence: Further outputs of the method.
        """
        modality_logits = ops.cast(modality_logits, "float32")
        if confidence is None:
            confidence = chance_corrected_confidence(modality_logits)
        counts = ops.convert_to_tensor(self.class_counts) + 1.0
        prior = ops.log(counts / ops.sum(counts))
        any_present = ops.max(mask, axis=1, keepdims=True) > 0
        logits = ops.where(any_present, ops.cast(logits, "float32"), prior)
        return {
            "logits": logits,
            "probabilities": ops.softmax(logits, axis=-1),
            "modality_logits": modality_logits,
            "confidence": ops.cast(confidence, "float32") * mask,
            MASK: mask,
            **evidence,
        }

    # -- Saving --------------------------------------------------------------

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("autocast", None)
        return {
            **config,
            "modalities": {
                name: keras.saving.serialize_keras_object(spec)
                if isinstance(spec, keras.layers.Layer)
                else list(spec)
                for name, spec in self.modality_specs.items()
            },
            "num_classes": self.num_classes,
            "augmentation": keras.saving.serialize_keras_object(
                self.augmentation
            ),
        }

    @classmethod
    def from_config(
        cls, config: dict, custom_objects: dict | None = None
    ) -> "MultimodalModel":
        config = dict(config)
        for key in ("modalities", "num_classes"):
            if key not in config:
                raise ValueError(
                    f"`config` must come from the `get_config` of a "
                    f"{cls.__name__} and hold '{key}'. Received: "
                    f"{sorted(config)}"
                )

        def restore(spec: Any) -> Any:
            return keras.saving.deserialize_keras_object(
                spec, custom_objects=custom_objects
            )

        config["modalities"] = {
            name: restore(spec) if isinstance(spec, dict) else tuple(spec)
            for name, spec in config["modalities"].items()
        }
        if isinstance(config.get("augmentation"), dict):
            config["augmentation"] = restore(config["augmentation"])
        return cls(**config)

    @classmethod
    def load(cls, path: Any, **kwargs: Any) -> "MultimodalModel":
        """Load a `.keras` file and make sure that it holds this class.

        `keras.saving.load_model` loads the same file; this adds the check
        and says in one sentence what is wrong with a damaged file.

        Args:
            path: The `.keras` file.
            **kwargs: Arguments of `keras.saving.load_model`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged.
            TypeError: If it holds a model of another class.
        """
        if not pathlib.Path(path).exists():
            raise FileNotFoundError(
                f"`path` must be a saved model. Received: path={str(path)!r}, "
                "which does not exist"
            )
        try:
            model = keras.saving.load_model(path, **kwargs)
        except Exception as error:
            # A class that is not registered is no damage: Keras names it.
            if "Could not locate class" in str(error):
                raise
            raise ValueError(
                "`path` must be an undamaged `.keras` file. Received: "
                f"path={str(path)!r}, which could not be read "
                f"({type(error).__name__}: {error})"
            ) from error
        if not isinstance(model, cls):
            raise TypeError(
                f"`path` must hold a {cls.__name__}. Received: "
                f"path={str(path)!r}, which holds a {type(model).__name__}"
            )
        return model

    def _seed_states(self) -> list[Any]:
        weights = {id(v) for v in self.weights}
        return [v for v in self.variables if id(v) not in weights]

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        # Keras saves no random state; with it a resumed run is exact.
        for index, state in enumerate(self._seed_states()):
            store[f"seed_{index}"] = state

    def load_own_variables(self, store: Any) -> None:
        seeds = [key for key in store.keys() if key.startswith("seed_")]
        states = self._seed_states()
        if len(seeds) == len(states):
            for index, state in enumerate(states):
                state.assign(store[f"seed_{index}"])
        super().load_own_variables(
            {key: store[key] for key in store.keys() if key not in seeds}
        )


def encoder_name(modality: str) -> str:
    """Name of a default encoder, without what a backend gives a meaning."""
    return f"{modality.replace('/', '_').replace('.', '_')}_encoder"


def keep_present(x: Any, present: Any) -> Any:
    """Replace the rows of `x` where `present` (batch,) is 0 by zeros.

    Selecting, not multiplying, so that a NaN goes too.
    """
    present = ops.reshape(present, (-1, *[1] * (len(x.shape) - 1)))
    return ops.where(present > 0, x, ops.zeros_like(x))


def chance_corrected_confidence(logits: Any) -> Any:
    """Largest probability on a scale from chance (0) to certainty (1)."""
    largest = ops.max(ops.softmax(logits, axis=-1), axis=-1)
    chance = 1.0 / logits.shape[-1]
    return (largest - chance) / (1.0 - chance)


def _as_layer_or_shape(spec: Any) -> Any:
    """Normalise what describes a modality: a list of blocks is a layer."""
    if isinstance(spec, keras.layers.Layer):
        return spec
    return BlockEncoder(spec) if validation.is_block_list(spec) else tuple(spec)


def _known_shape(spec: Any) -> Any:
    """Input shape without the batch axis, or `None` if nobody knows it yet."""
    if not isinstance(spec, keras.layers.Layer):
        return tuple(spec)
    try:
        shape = spec.input_shape
    except AttributeError:
        return None
    if isinstance(shape, list):
        return None
    return _map_shapes(lambda s: tuple(s[1:]), shape)


def _map_shapes(function: Callable, shapes: Any) -> Any:
    """Apply `function` to a shape, or to each shape of a (nested) dict."""
    if isinstance(shapes, Mapping):
        return {k: _map_shapes(function, s) for k, s in shapes.items()}
    return function(shapes)


def _with_batch(shape: Sequence) -> tuple:
    return (None, *shape)
