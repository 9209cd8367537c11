import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.backend.torch_export import free_batch
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Outputs
from keras_mmrel.layers._portable import portable_operations
from keras_mmrel.optional import require

# Ending of a file of each format; a SavedModel is a folder.
ENDINGS = {
    "tf_saved_model": "",
    "onnx": ".onnx",
    "openvino": ".xml",
    "litert": ".tflite",
    "torch": ".pt2",
}
# The mask as an output, where it is an input and names are unique.
USED_MASK = f"{MASK}_used"
# Parts of a text, as tokenizers make them.
INTEGERS = ("token_ids", "segment_ids", "padding_mask")


def check(model: Any, path: Any, format: str, modality_mask: Any) -> None:
    """Refuse what no export could be made of.

    Raises:
        ValueError: If the model has no weights yet, or an argument is none
            of those that exist.
    """
    if format not in ENDINGS:
        raise ValueError(
            f"`format` must be one of {list(ENDINGS)}. Received: "
            f"format={format!r}"
        )
    if not str(path).endswith(ENDINGS[format]):
        raise ValueError(
            f"`filepath` must end in '{ENDINGS[format]}' for the format "
            f"'{format}'. Received: filepath={str(path)!r}"
        )
    if not isinstance(modality_mask, bool):
        raise ValueError(
            "`modality_mask` must be True or False. Received: "
            f"modality_mask={modality_mask!r}"
        )
    if not model.built:
        raise ValueError(
            f"{type(model).__name__} must be called or trained before "
            "`export`, since an encoder does not know its input shape. "
            "Received: a model that is not built"
        )


class InferenceCall(keras.layers.Layer):
    """What an exported file computes: a model, without training.

    A mask of one row stands for all samples, so that a file can hold a
    default for it.

    Args:
        model: The multimodal model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(dtype=model.dtype_policy, autocast=False)
        self.model = model
        self.built = True

    def call(self, inputs: Modalities) -> Outputs:
        if MASK in inputs:
            leaf = keras.tree.flatten(inputs[self.model.modality_names[0]])[0]
            rows = ops.ones_like(
                leaf[(..., *[0] * (len(leaf.shape) - 1))], dtype="float32"
            )
            inputs = {**inputs, MASK: rows[:, None] * inputs[MASK]}
        return self.model(inputs, training=False)


def inputs_of(model: Any, modality_mask: bool) -> dict[str, Any]:
    """Symbolic inputs of a model, each with its name."""
    inputs = {
        name: _input(name, shape)
        for name, shape in model.modality_shapes.items()
    }
    if modality_mask:
        inputs[MASK] = keras.Input((len(inputs),), name=MASK)
    return inputs


def _input(name: str, shape: Any) -> Any:
    if isinstance(shape, Mapping):
        return {
            key: keras.Input(
                part,
                name=f"{name}_{key}",
                dtype="int32" if key in INTEGERS else "float32",
            )
            for key, part in shape.items()
        }
    return keras.Input(shape, name=name)


def export(
    model: Any, path: Any, format: str, modality_mask: bool, **kwargs: Any
) -> None:
    """Write the file of a model that `check` has accepted."""
    with portable_operations():
        _write(model, str(path), format, modality_mask, **kwargs)


def _write(
    model: Any, path: str, format: str, modality_mask: bool, **kwargs: Any
) -> None:
    # ONNX can hold a default for an input.
    inputs = inputs_of(model, modality_mask or format == "onnx")
    outputs = InferenceCall(model)(inputs)
    names = sorted(outputs)
    # The tracers of these two lose the keys of a dict.
    listed = format in ("onnx", "openvino")
    given = [outputs[name] for name in names] if listed else outputs
    graph = keras.Model(inputs, given, name=model.name)
    if listed and MASK in inputs:
        # In their graphs an input and an output have two names.
        names[names.index(MASK)] = USED_MASK
    signature = keras.tree.map_structure(
        lambda x: keras.layers.InputSpec(x.dtype, x.shape, name=x.name), inputs
    )
    if format == "torch":
        kwargs.setdefault("dynamic_shapes", free_batch(signature))
    kwargs["input_signature"] = [signature]
    if format == "onnx":
        _write_onnx(graph, names, path, **kwargs)
        _set_default(path, MASK, np.ones((1, len(model.modality_names))))
    elif format == "openvino":
        _write_openvino(graph, names, path, **kwargs)
    else:
        graph.export(path, format=format, **kwargs)


def _write_onnx(
    graph: keras.Model, names: list[str], path: str, **kwargs: Any
) -> None:
    """Export, and give the outputs their names."""
    onnx = require("onnx", "export")
    graph.export(path, format="onnx", **kwargs)
    file = onnx.load(path)
    given = [output.name for output in file.graph.output]
    _rename(file.graph, dict(zip(given, names, strict=True)))
    onnx.checker.check_model(file)
    onnx.save(file, path)


def _set_default(path: str, name: str, value: np.ndarray) -> None:
    """Let an input of an ONNX file be left out."""
    onnx = require("onnx", "export")
    file = onnx.load(path)
    tensor = onnx.numpy_helper.from_array(value.astype("float32"), name)
    file.graph.initializer.append(tensor)
    onnx.checker.check_model(file)
    onnx.save(file, path)


def _rename(graph: Any, new: dict[str, str]) -> None:
    """Give tensors of an ONNX graph other names."""
    # What else has such a name makes way.
    taken = {name: f"{name}_of_graph" for name in new.values()}
    taken = {name: other for name, other in taken.items() if name not in new}
    inputs = {tensor.name for tensor in graph.input}
    new = {**{n: o for n, o in taken.items() if n not in inputs}, **new}
    for tensor in (*graph.output, *graph.initializer, *graph.value_info):
        tensor.name = new.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]


def _write_openvino(
    graph: keras.Model, names: list[str], path: str, **kwargs: Any
) -> None:
    """By way of ONNX, which keeps the names on every backend."""
    openvino = require("openvino", "export")
    with tempfile.TemporaryDirectory() as folder:
        onnx = str(Path(folder) / "model.onnx")
        _write_onnx(graph, names, onnx, **kwargs)
        openvino.save_model(
            openvino.convert_model(onnx), path, compress_to_fp16=False
        )
