"""Run what a model has exported, in the format's own runtime."""

import keras
import numpy as np
import pytest

from keras_mmrel._exporting import ENDINGS
from keras_mmrel.contract import MASK

# What Keras can write on a backend, and with which packages beside it.
FORMATS = {
    "jax": ("tf_saved_model", "onnx", "openvino"),
    "tensorflow": ("tf_saved_model", "onnx", "openvino", "litert"),
    "torch": ("torch", "onnx", "openvino"),
}[keras.config.backend()]
_ONNX = {"jax": ["jax2onnx"], "tensorflow": ["tf2onnx"], "torch": []}
WRITERS = {
    "onnx": ["onnx", *_ONNX[keras.config.backend()]],
    "openvino": ["onnx", "openvino", *_ONNX[keras.config.backend()]],
}


def path_for(form, folder):
    """Name of a file of a format, if what writes it is installed."""
    for package in WRITERS.get(form, []):
        pytest.importorskip(package)
    return folder / f"model{ENDINGS[form]}"


def run_exported(path, form, inputs):
    """Outputs by name of an exported file.

    Args:
        path: The file, or the folder of a SavedModel.
        form: Its format, as `export` calls it.
        inputs: Name -> array, as in the file.
    """
    return RUNTIMES[form](str(path), inputs)


def _saved_model(path, inputs):
    tf = pytest.importorskip("tensorflow")
    loaded = tf.saved_model.load(path)
    outputs = loaded.serve(inputs)
    return {name: value.numpy() for name, value in outputs.items()}


def _onnx(path, inputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    optional = {t.name for t in session.get_overridable_initializers()}
    assert MASK in optional
    names = [tensor.name for tensor in session.get_inputs()]
    assert names == [name for name in inputs if name not in optional]
    names = [output.name for output in session.get_outputs()]
    return _plain(dict(zip(names, session.run(None, inputs), strict=True)))


def _openvino(path, inputs):
    openvino = pytest.importorskip("openvino")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(path, "CPU", exact)
    # A tensor of OpenVINO has all names that it had on its way.
    return _plain(
        {
            name: np.array(value)
            for output, value in model(inputs).items()
            for name in output.get_names()
        }
    )


def _plain(outputs):
    """Call the mask as it is called elsewhere."""
    used = outputs.pop(f"{MASK}_used", None)
    return outputs if used is None else {**outputs, MASK: used}


def _litert(path, inputs):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    runner = litert.Interpreter(model_path=path).get_signature_runner()
    return runner(**inputs)


def _torch(path, inputs):
    torch = pytest.importorskip("torch")
    program = torch.export.load(path).module()
    outputs = program({n: torch.from_numpy(v) for n, v in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


RUNTIMES = {
    "tf_saved_model": _saved_model,
    "onnx": _onnx,
    "openvino": _openvino,
    "litert": _litert,
    "torch": _torch,
}
