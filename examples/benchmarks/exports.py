"""Every export of every model, in its own runtime, against the model.

    python examples/benchmarks/exports.py

Needs what writes and runs the formats: onnx, onnxruntime, openvino,
ai-edge-litert, tf2onnx for TensorFlow and jax2onnx for JAX. A format whose
packages are not there is left out.
"""

import collections
import importlib.util
import json
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _harness import BACKENDS
from _harness import markdown
from _harness import parser
from _harness import report
from _harness import run_worker
from _harness import seconds
from _harness import write

# What Keras can write on a backend, by format: packages beside the backend.
FORMATS: dict[str, dict[str, list[str]]] = {
    "jax": {
        "tf_saved_model": ["tensorflow"],
        "onnx": ["onnx", "onnxruntime", "jax2onnx"],
        "openvino": ["onnx", "openvino", "jax2onnx"],
    },
    "tensorflow": {
        "tf_saved_model": [],
        "onnx": ["onnx", "onnxruntime", "tf2onnx"],
        "openvino": ["onnx", "openvino", "tf2onnx"],
        "litert": ["ai_edge_litert"],
    },
    "torch": {
        "torch": [],
        "onnx": ["onnx", "onnxruntime"],
        "openvino": ["onnx", "openvino"],
    },
}
TITLES = {
    "tf_saved_model": "SavedModel",
    "onnx": "ONNX",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "torch": ".pt2",
}
SHAPES = {
    "vectors": {"a": (6,), "b": (4,), "c": (5,)},
    "with an image": {"a": (6,), "b": (4,), "c": (8, 8, 1)},
}
TOLERANCE = 1e-4
DECISION = "Decision"
REPETITIONS = 50


def names() -> list[str]:
    """All models, and the decision of one."""
    import keras_mmrel

    models = keras_mmrel.models
    base = models.MultimodalModel
    found = [n for n in models.__all__ if issubclass(getattr(models, n), base)]
    return [*(n for n in found if n != base.__name__), DECISION]


def trained(
    name: str, shapes: dict[str, tuple], samples: int = 192
) -> tuple[Any, dict[str, Any]]:
    """A model after two steps, and 20 new samples."""
    import keras
    import numpy as np

    import keras_mmrel

    rng = np.random.default_rng(0)
    y = np.arange(samples + 20) % 3
    x = {}
    for key, shape in shapes.items():
        noise = rng.normal(0, 0.3, size=(len(y), *shape))
        x[key] = (rng.normal(size=(3, *shape))[y] + noise).astype("float32")
    new = {key: value[samples:] for key, value in x.items()}
    x, y = {key: value[:samples] for key, value in x.items()}, y[:samples]
    kind = "QADMNet" if name == DECISION else name
    options = {"history_size": samples} if kind == "QMF" else {}
    keras.utils.set_random_seed(0)
    model = getattr(keras_mmrel, kind)(shapes, 3, seed=0, **options)
    model.compile()
    model.fit(x, y, batch_size=samples // 2, verbose=0)
    if name == DECISION:
        model = keras_mmrel.evaluation.Decision.fit(model, x, y, risk=0.3)
    return model, new


def opened(path: str, form: str) -> Callable[[dict], dict]:
    """A function of inputs by name that runs a file in its own runtime."""
    return {
        "tf_saved_model": _saved_model,
        "onnx": _onnx,
        "openvino": _openvino,
        "litert": _litert,
        "torch": _torch,
    }[form](path)


def _saved_model(path: str) -> Callable[[dict], dict]:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return lambda x: {n: v.numpy() for n, v in loaded.serve(x).items()}


def _onnx(path: str) -> Callable[[dict], dict]:
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(path)
    keys = [output.name for output in session.get_outputs()]
    # Where the mask is an input, the output of that name has another one.
    keys = [key.removesuffix("_used") for key in keys]
    return lambda x: dict(zip(keys, session.run(None, x), strict=True))


def _openvino(path: str) -> Callable[[dict], dict]:
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", exact)
    return lambda x: {
        name: value.copy()
        for output, value in compiled(x).items()
        for name in output.get_names()
    }


def _litert(path: str) -> Callable[[dict], dict]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    return lambda x: interpreter.get_signature_runner()(**x)


def _torch(path: str) -> Callable[[dict], dict]:
    import torch

    program = torch.export.load(path).module()

    def run(x: dict) -> dict:
        outputs = program({n: torch.from_numpy(v) for n, v in x.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return run


def exported(model: Any, x: dict[str, Any], form: str) -> dict[str, Any]:
    """Largest difference and time of a sample, or the message of a failure."""
    import numpy as np

    from keras_mmrel._exporting import ENDINGS

    expected = model.predict(x, verbose=0)
    one = {name: value[:1] for name, value in x.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / f"model{ENDINGS[form]}")
        try:
            model.export(path, format=form, verbose=False)
            run = opened(path, form)
            found = run(x)
        except Exception as error:
            text = " ".join(str(error).split())
            return {"error": f"{type(error).__name__}: {text[:160]}"}
        missing = set(expected) - set(found)
        if missing:
            return {"error": f"without {sorted(missing)}"}
        run(one)
        times = [seconds(lambda: run(one)) for _ in range(REPETITIONS)]
        return {
            "difference": max(
                float(np.abs(np.float64(found[n]) - expected[n]).max())
                for n in expected
            ),
            "milliseconds": 1e3 * statistics.median(times),
        }


def measure(forms: list[str], models: list[str], kinds: list[str]) -> dict:
    """Kind of inputs -> model -> format -> what `exported` says.

    The model's own time of one sample is under `predict_on_batch`.
    """
    found: dict[str, Any] = {kind: {} for kind in kinds}
    for kind in kinds:
        for name in models or names():
            model, x = trained(name, SHAPES[kind])
            results = {form: exported(model, x, form) for form in forms}
            one = {key: value[:1] for key, value in x.items()}
            model.predict_on_batch(one)
            times = [
                seconds(lambda m=model, o=one: m.predict_on_batch(o))
                for _ in range(REPETITIONS)
            ]
            own = 1e3 * statistics.median(times)
            results["predict_on_batch"] = {"milliseconds": own}
            found[kind][name] = results
            print(kind, name, json.dumps(results), file=sys.stderr)
    return found


def tables(results: dict[str, dict], kinds: list[str]) -> str:
    """Differences, times, and messages by number."""
    notes: dict[str, str] = collections.OrderedDict()
    text = []
    for kind in kinds:
        columns = [
            (backend, form)
            for backend in results
            for form in FORMATS[backend]
            if any(form in r for r in results[backend][kind].values())
        ]
        models = list(
            dict.fromkeys(n for r in results.values() for n in r[kind])
        )
        differences, times = [], []
        for name in models:
            cells = []
            for backend, form in columns:
                cell = results[backend][kind].get(name, {}).get(form)
                if cell is None:
                    cells.append("not measured")
                    continue
                if "error" in cell:
                    number = notes.setdefault(
                        cell["error"], f"[{len(notes) + 1}]"
                    )
                    cells.append(number)
                    continue
                largest = cell["difference"]
                wrong = "" if largest <= TOLERANCE else " DIFFERENT"
                cells.append(f"{largest:.0e}{wrong}")
            differences.append([name, *cells])
            cells = []
            for backend in results:
                own = results[backend][kind].get(name, {})
                forms = [f for b, f in columns if b == backend]
                for form in ("predict_on_batch", *forms):
                    ms = own.get(form, {}).get("milliseconds")
                    cells.append("-" if ms is None else f"{ms:.2f}")
            times.append([name, *cells])
        heads = [f"{b} {TITLES[f]}" for b, f in columns]
        text += [f"## Inputs: {kind}", "Largest difference to the model:"]
        text += [markdown(["model", *heads], differences)]
        heads = []
        for backend in results:
            heads += [f"{backend}, the model"]
            heads += [f"{b} {TITLES[f]}" for b, f in columns if b == backend]
        text += ["Median time of one sample, ms:"]
        text += [markdown(["model", *heads], times)]
    if notes:
        text += ["## What is not written"]
        text += [f"* {number} `{error}`" for error, number in notes.items()]
    return "\n\n".join(text)


def main() -> None:
    arguments = parser(__doc__, "exports.md")
    arguments.add_argument("--models", nargs="+", default=[], help="by name")
    arguments.add_argument(
        "--inputs", nargs="+", choices=list(SHAPES), default=["with an image"]
    )
    arguments.add_argument("--formats", nargs="+", choices=list(TITLES))
    arguments.add_argument(
        "--parts",
        type=Path,
        help="folder that keeps what was measured on each backend",
    )
    args = arguments.parse_args()
    if args.worker:
        warnings.simplefilter("ignore")
        forms = args.worker.split(",")
        report(measure(forms, args.models, args.inputs))
        return
    results = {}
    for backend in [b for b in BACKENDS if b in args.backends]:
        forms = [
            form
            for form, packages in FORMATS[backend].items()
            if all(importlib.util.find_spec(p) for p in packages)
            and form in (args.formats or TITLES)
        ]
        given = ["--inputs", *args.inputs]
        given += ["--models", *args.models] if args.models else []
        kept = args.parts and args.parts / f"{backend}.json"
        if kept and kept.exists():
            results[backend] = json.loads(kept.read_text())
            continue
        results[backend] = run_worker(
            __file__, backend, f"--worker={','.join(forms)}", *given
        )
        if kept:
            kept.write_text(json.dumps(results[backend]))
    write(
        args.out,
        "Exported models",
        f"""Each model is trained for two steps and exported by `export`; the \
file is run by TensorFlow, onnxruntime, OpenVINO, ai-edge-litert or PyTorch on \
20 new samples. {DECISION} is one of a QADMNet. A difference is the largest of \
all outputs and samples; up to {TOLERANCE:g} is taken for rounding. A time is \
the median of {REPETITIONS} calls with one sample, one after the other in one \
process; processes share their cores with others, so only times of one row \
and backend are comparable.""",
        tables(results, args.inputs),
        args,
    )


if __name__ == "__main__":
    main()
