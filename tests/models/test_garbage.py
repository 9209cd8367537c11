"""What stands under a mask of 0 changes no bit, whatever the encoder."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import everywhere
from tests.helpers import vectors

MODELS = [
    name
    for name in keras_mmrel.models.__all__
    if name not in ("AuxiliaryPaths", "Clock", "MultimodalModel", "SideInput")
]
GARBAGE = np.array([np.nan, np.inf, -np.inf, 1e30, -7.0], "float32")
SAMPLES, WORDS = 32, 5


def text_encoder():
    """Token numbers and how many count, through an embedding and a GRU."""
    tokens = keras.Input((WORDS,), dtype="int32")
    weight = keras.Input((WORDS,))
    embedded = keras.layers.Embedding(10, 4)(tokens)
    states = keras.layers.GRU(6, return_sequences=True, unroll=True)(
        embedded * weight[:, :, None]
    )
    pooled = keras.layers.GlobalAveragePooling1D()(states)
    return keras.Model({"tokens": tokens, "weight": weight}, pooled)


def sound_encoder():
    return keras.Sequential(
        [
            keras.Input((6, 3)),
            keras.layers.Conv1D(4, 3, activation="relu"),
            keras.layers.LayerNormalization(),
            keras.layers.GRU(5, unroll=True),
        ]
    )


def make(name):
    keras.utils.set_random_seed(0)
    modalities = {"vector": (4,), "image": (6, 6, 1), "sound": sound_encoder()}
    # The blocks of AIM take one tensor and have channels.
    if name == "AIM":
        modalities["sound"] = [
            keras.layers.Conv1D(4, 3, activation="relu"),
            keras.layers.GRU(5, unroll=True, return_sequences=True),
        ]
        modalities["sound"][0].build((None, 6, 3))
    else:
        modalities["text"] = text_encoder()
    model = getattr(keras_mmrel, name)(modalities, 3, seed=0)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    return model


def samples(name, garbage):
    """Data whose missing modalities are zero, or garbage."""
    rng = np.random.default_rng(0)
    x, y = vectors(SAMPLES, {"vector": (4,), "image": (6, 6, 1)})
    x["sound"] = rng.normal(size=(SAMPLES, 6, 3)).astype("float32")
    if name != "AIM":
        x["text"] = {
            "tokens": rng.integers(0, 10, (SAMPLES, WORDS)).astype("int32"),
            "weight": np.ones((SAMPLES, WORDS), "float32"),
        }
    mask = (rng.uniform(size=(SAMPLES, len(x))) < 0.6).astype("float32")
    mask[:, 0] = np.arange(SAMPLES) % 4 > 0
    for column, value in enumerate(x.values()):
        for array in keras.tree.flatten(value):
            missing = np.flatnonzero(mask[:, column] == 0)
            array[missing] = 0
            if garbage and array.dtype.kind == "f":
                shape = (len(missing), *array.shape[1:])
                array[missing] = rng.choice(GARBAGE, shape)
            elif garbage:
                array[missing] = rng.choice([-(10**6), -1, 10**6], WORDS)
    return {**x, "modality_mask": mask}, y


def trained(model, start, x, y):
    """Losses, outputs, weights and statistics after a training."""
    state = [*model.variables, *model.optimizer.variables]
    for variable, value in zip(state, start, strict=True):
        variable.assign(value)
    history = model.fit(
        x, y, batch_size=16, epochs=2, shuffle=False, verbose=0
    ).history
    return {
        "losses": {k: np.array(v) for k, v in history.items()},
        "outputs": model.predict(x, batch_size=16, verbose=0),
        "loss": np.array(model.evaluate(x, y, batch_size=16, verbose=0)),
        "state": {v.path + str(i): np.array(v) for i, v in enumerate(state)},
    }


@pytest.mark.slow_on("jax")
@pytest.mark.filterwarnings("ignore:CAL measures", "ignore:invalid value")
@pytest.mark.parametrize("name", everywhere(MODELS, ["ConcatFusion"]))
def test_garbage_under_the_mask_changes_no_bit(name):
    model = make(name)
    x, y = samples(name, garbage=False)
    if not model.built:
        model(dict(x))
    model.optimizer.build(model.trainable_variables)
    start = [
        np.array(v) for v in (*model.variables, *model.optimizer.variables)
    ]
    clean = trained(model, start, x, y)
    dirty = trained(model, start, *samples(name, garbage=True))
    for part, expected in clean.items():
        keras.tree.map_structure(
            lambda a, b, part=part: np.testing.assert_array_equal(a, b, part),
            dirty[part],
            expected,
        )
    # It learnt something, so that equal states are no accident.
    moved = [
        np.abs(ops.convert_to_numpy(v) - start[i]).max()
        for i, v in enumerate(model.variables)
        if v.trainable
    ]
    assert max(moved) > 1e-4
