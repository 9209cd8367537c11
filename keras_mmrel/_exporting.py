"""Files of a model that run without Keras, with names for all they take."""

import tempfile
from collections.abc import Collection
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_mmrel.backend.torch_export import free_batch
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Outputs
from keras_mmrel.optional import require
from keras_mmrel.portable import portable_operations

# Ending of a file of each format; a SavedModel is a folder.
ENDINGS = {
    "tf_saved_model": "",
    "onnx": ".onnx",
    "openvino": ".xml",
    "litert": ".tflite",
    "torch": ".pt2",
}
# Parts of a text, as tokenizers make them.
INTEGERS = ("token_ids", "segment_ids", "padding_mask")


class Side(NamedTuple):
    """An input beside the modalities.

    Attributes:
        shape: Of one sample.
        dtype: Its dtype.
        default: What it is where it is not given, for one sample.
    """

    shape: tuple[int, ...]
    dtype: str
    default: Array


def mask_of(count: int) -> Side:
    """The mask of a number of modalities, by default all present."""
    return Side((count,), "float32", np.ones(count, "float32"))


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

    One row of a side input stands for all samples, so that a file can hold a
    default for it.

    Args:
        model: A model of a dict of modalities.
        sides: Inputs beside the modalities.
    """

    def __init__(self, model: Any, sides: Mapping[str, Side]) -> None:
        super().__init__(dtype=model.dtype_policy, autocast=False)
        self.model = model
        self.sides = dict(sides)
        self.built = True

    def call(self, inputs: Modalities) -> Outputs:
        inputs = dict(inputs)
        first = next(name for name in inputs if name not in self.sides)
        leaf = keras.tree.flatten(inputs[first])[0]
        one = ops.ones_like(leaf[(..., *[0] * (len(leaf.shape) - 1))])
        for name, side in self.sides.items():
            if name in inputs:
                rows = ops.cast(one, side.dtype)
                rows = ops.reshape(rows, (-1, *[1] * len(side.shape)))
                inputs[name] = rows * inputs[name]
        return self.model(inputs, training=False)


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
    model: Any,
    shapes: Mapping[str, Any],
    path: Any,
    format: str,
    sides: Mapping[str, Side],
    asked: Collection[str],
    **kwargs: Any,
) -> None:
    """Write the file of a model that `check` has accepted.

    Args:
        model: A model of a dict of modalities.
        shapes: Modality name -> shape of a sample, or a dict of such.
        path: Name of the file.
        format: Its format.
        sides: Name -> what it may take beside the modalities.
        asked: Names of those that are inputs. ONNX can hold a default for an
            input, so there all are.
        **kwargs: Arguments of `keras.Model.export`.
    """
    with portable_operations():
        taken = {
            name: side
            for name, side in sides.items()
            if name in asked or format == "onnx"
        }
        _write(model, shapes, str(path), format, taken, **kwargs)
    if format == "onnx":
        _set_defaults(str(path), sides)


def _write(
    model: Any,
    shapes: Mapping[str, Any],
    path: str,
    format: str,
    sides: Mapping[str, Side],
    **kwargs: Any,
) -> None:
    inputs = {name: _input(name, shape) for name, shape in shapes.items()}
    for name, side in sides.items():
        inputs[name] = keras.Input(side.shape, name=name, dtype=side.dtype)
    outputs = InferenceCall(model, sides)(inputs)
    names = sorted(outputs)
    # The tracers of these two lose the keys of a dict.
    listed = format in ("onnx", "openvino")
    given = [outputs[name] for name in names] if listed else outputs
    graph = keras.Model(inputs, given, name=model.name)
    signature = keras.tree.map_structure(
        lambda x: keras.layers.InputSpec(x.dtype, x.shape, name=x.name), inputs
    )
    if format == "torch":
        kwargs.setdefault("dynamic_shapes", free_batch(signature))
    kwargs["input_signature"] = [signature]
    # In the graphs of ONNX an input and an output have two names.
    names = [f"{n}_used" if n in sides else n for n in names]
    if format == "onnx":
        _write_onnx(graph, names, path, **kwargs)
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


def _set_defaults(path: str, sides: Mapping[str, Side]) -> None:
    """Let inputs of an ONNX file be left out."""
    onnx = require("onnx", "export")
    file = onnx.load(path)
    for name, side in sides.items():
        default = np.asarray(side.default, side.dtype)[None]
        tensor = onnx.numpy_helper.from_array(default, name)
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
    onnx = require("onnx", "export")
    with tempfile.TemporaryDirectory() as folder:
        middle = str(Path(folder) / "model.onnx")
        _write_onnx(graph, names, middle, **kwargs)
        file = onnx.load(middle)
        _keep_reduced_axes(file.graph)
        onnx.save(file, middle)
        converted = openvino.convert_model(middle)
    _check_openvino(graph, names, openvino.Core(), converted)
    openvino.save_model(converted, path, compress_to_fp16=False)


def _check_openvino(
    graph: keras.Model, names: list[str], core: Any, converted: Any
) -> None:
    """Refuse a file that would compute other numbers than the model.

    A converter of graphs has mistakes that no message tells.

    Raises:
        RuntimeError: If it does so for random inputs.
    """
    rng = np.random.default_rng(0)

    def draw(x: Any) -> Array:
        shape = (9, *(length or 8 for length in x.shape[1:]))
        if "int" in x.dtype or x.name == MASK:
            return rng.integers(0, 2, size=shape).astype(x.dtype)
        return rng.normal(size=shape).astype(x.dtype)

    inputs = keras.tree.map_structure(draw, graph.input)
    model = core.compile_model(
        converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = list(model(keras.tree.flatten(inputs)).values())
    for name, value, other in zip(names, graph(inputs), found, strict=True):
        value = ops.convert_to_numpy(value)
        if not np.allclose(value, other, rtol=1e-3, atol=1e-3):
            raise RuntimeError(
                f"OpenVINO computes other values of '{name}' than the model, "
                "so nothing was written: `format='onnx'` is another way. "
                "Received: format='openvino'"
            )


def _keep_reduced_axes(graph: Any) -> None:
    """Reduce to axes of length one, which are dropped afterwards.

    OpenVINO 2026.4 fuses a sum, or another reduction, with the row of
    constants that is added to it or divides it, and where the number of
    samples is free all but the first samples then hold what happened to be
    in memory.
    """
    onnx = require("onnx", "export")
    nodes = []
    for node in graph.node:
        nodes.append(node)
        attributes = {a.name: a for a in node.attribute}
        keepdims = attributes.get("keepdims")
        if not node.op_type.startswith("Reduce") or keepdims is None:
            continue
        axes = node.input[1] if len(node.input) > 1 else ""
        if "axes" in attributes:
            axes = f"{node.output[0]}_axes"
            values = np.asarray(attributes["axes"].ints, "int64")
            graph.initializer.append(onnx.numpy_helper.from_array(values, axes))
        if keepdims.i or not axes:
            continue
        keepdims.i, result = 1, node.output[0]
        node.output[0] = f"{result}_kept"
        nodes.append(
            onnx.helper.make_node("Squeeze", [node.output[0], axes], [result])
        )
    del graph.node[:]
    graph.node.extend(nodes)
