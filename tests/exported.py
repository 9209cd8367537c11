"""Run what a model has exported, in the format's own runtime."""

import numpy as np
import pytest

from keras_mmrel.contract import MASK


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
    outputs = tf.saved_model.load(path).serve(inputs)
    return {name: value.numpy() for name, value in outputs.items()}


def _onnx(path, inputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    names = [tensor.name for tensor in session.get_inputs()]
    assert names == [name for name in inputs if name != MASK]
    optional = [t.name for t in session.get_overridable_initializers()]
    assert MASK in optional
    names = [output.name for output in session.get_outputs()]
    return _plain(dict(zip(names, session.run(None, inputs), strict=True)))


def _openvino(path, inputs):
    openvino = pytest.importorskip("openvino")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(path, "CPU", exact)
    return _plain(
        {
            output.any_name: np.array(value)
            for output, value in model(inputs).items()
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
