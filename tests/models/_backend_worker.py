"""Trains models and saves them, or goes on with those that others saved.

    python -m tests.models._backend_worker save FOLDER NAME...
    python -m tests.models._backend_worker load FOLDER BACKEND...

`save` writes, for each model, `<backend>-<name>.keras` and what it predicts;
`load` reads such files of other backends and prints what is different here.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

import keras_mmrel
from keras_mmrel.contract import MASK
from tests.helpers import SHAPES
from tests.helpers import vectors
from tests.quick_compiler import use_quick_compiler

BATCH = 24
X, Y = vectors(48)
MODELS = [
    name
    for name in keras_mmrel.models.__all__
    if issubclass(
        getattr(keras_mmrel.models, name), keras_mmrel.MultimodalModel
    )
    and name != "MultimodalModel"
]
MANY = {n: np.tile(v, (6, 1)) for n, v in X.items()}
NOISE = np.random.default_rng(1)
HELD, NEW = (
    {n: v + NOISE.normal(0, 0.1, v.shape).astype("float32") for n, v in x}
    for x in (MANY.items(), [(n, v[:49]) for n, v in MANY.items()])
)
# Nothing is drawn in their training, so every backend goes on alike.
UNDRAWN = ("ConcatFusion", "LateFusion")


def train(model):
    return model.fit(X, Y, batch_size=BATCH, shuffle=False, verbose=0)


def undrawn(shape):
    encoder = keras_mmrel.encoders.MLPEncoder(dropout=0.0)
    return keras_mmrel.encoders.Scaling(shape, encoder)


def made(name):
    options = {"history_size": len(Y)} if name == "QMF" else {}
    specs = {n: undrawn(s) for n, s in SHAPES.items()}
    specs = specs if name in UNDRAWN else SHAPES
    model = getattr(keras_mmrel, name)(specs, 3, seed=0, **options)
    many = 1 if keras.config.backend() == "torch" else 2
    model.compile(steps_per_execution=many)
    train(model)
    return model


def predicted(model):
    """Predictions, for a damaged modality too."""
    mask = np.ones((49, len(SHAPES)), "float32")
    mask[::3, 1] = 0
    return model.predict({**NEW, MASK: mask}, batch_size=BATCH, verbose=0)


def state(model):
    """Of optimizer and clock."""
    values = [*model.optimizer.variables, model.clock.step]
    return {str(i): ops.convert_to_numpy(v) for i, v in enumerate(values)}


def save(folder, name):
    """Save one, and what it is afterwards."""
    path = folder / f"{keras.config.backend()}-{name}"
    if name == "Decision":
        model = made("QADMNet")
        decision = keras_mmrel.evaluation.Decision.fit(
            model, HELD, np.tile(Y, 6), 0.5
        )
        decision.save(f"{path}.keras")
        np.savez(f"{path}-predicted", **predicted(decision))
        return
    model = made(name)
    model.save(f"{path}.keras")
    np.savez(f"{path}-predicted", **predicted(model))
    np.savez(f"{path}-state", **state(model))
    train(model)
    np.savez(f"{path}-later", **predicted(model))


def load(path):
    """What is different here, as numbers of a dict."""
    name = path.stem.split("-")[1]
    keras.utils.set_random_seed(1)
    model = keras.saving.load_model(path)
    expected = np.load(path.with_name(f"{path.stem}-predicted.npz"))
    found = {"predicted": _difference(predicted(model), expected)}
    if name == "Decision":
        return found
    expected = np.load(path.with_name(f"{path.stem}-state.npz"))
    found["state"] = _difference(state(model), expected)
    fresh = getattr(keras_mmrel, name)(SHAPES, 3)
    fresh.compile()
    found["jit"] = int(model.jit_compile != fresh.jit_compile)
    before = int(model.optimizer.iterations)
    loss = train(model).history["loss"][-1]
    found["loss"] = 0.0 if np.isfinite(loss) else np.inf
    done = int(model.optimizer.iterations) - before
    found["steps"] = abs(done - -(-len(Y) // BATCH))
    if name in UNDRAWN:
        later = np.load(path.with_name(f"{path.stem}-later.npz"))
        found["later"] = _difference(predicted(model), later)
    return found


def _difference(found, expected):
    assert set(found) == set(expected)
    return max(
        float(np.abs(np.asarray(found[n], "float64") - expected[n]).max())
        for n in expected
    )


def main(task, folder, *chosen):
    use_quick_compiler()
    folder = Path(folder)
    if task == "save":
        for name in chosen:
            save(folder, name)
        return
    files = [p for b in chosen for p in sorted(folder.glob(f"{b}-*.keras"))]
    print(json.dumps({path.stem: load(path) for path in files}))


if __name__ == "__main__":
    main(*sys.argv[1:])
