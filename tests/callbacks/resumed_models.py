"""Every model of the library, and everything that draws, for resumed runs.

No seed is given: what a model draws by itself must be restored as well.
"""

import keras
import numpy as np

import keras_mmrel
from keras_mmrel import modulations
from tests.helpers import SHAPES
from tests.helpers import vectors

CLASSES = 3
SAMPLES = 60
BATCH = 20


def own_encoders():
    """Encoders of a user, whose dropout has no seed."""
    return {
        name: keras.Sequential(
            [
                keras.Input(shape),
                keras.layers.Dense(8, "relu"),
                keras.layers.GaussianNoise(0.1),
                keras.layers.Dropout(0.5),
            ]
        )
        for name, shape in SHAPES.items()
    }


def blocks():
    return {
        name: [
            keras.Sequential(
                [
                    keras.Input(shape),
                    keras.layers.Dense(8, "relu"),
                    keras.layers.Dropout(0.3),
                ]
            ),
            keras.layers.Dense(6, "relu"),
        ]
        for name, shape in SHAPES.items()
    }


def plain(cls, **kwargs):
    return lambda: (cls(SHAPES, CLASSES, **kwargs), {})


def modulated(modulation):
    def make():
        model = keras_mmrel.ConcatFusion(own_encoders(), CLASSES)
        return model, {"modulation": modulation(), "optimizer": "sgd"}

    return make


def prepared():
    """Augmentation, quality control, loss scaling and averaged weights."""
    model = keras_mmrel.QADMNet(
        SHAPES,
        CLASSES,
        augmentation=keras_mmrel.layers.CorruptionAugmentation(),
        quality=keras_mmrel.layers.RangeControl(),
        dtype="mixed_float16",
    )
    adam = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(1e-2, 12), use_ema=True
    )
    return model, {"optimizer": adam}


def images():
    shapes = {"image": (8, 8, 1), "a": SHAPES["a"]}
    return keras_mmrel.TMC(shapes, CLASSES), {}


MODELS = {
    "QADMNet": plain(keras_mmrel.QADMNet),
    "QADMNet prepared": prepared,
    "MICINet": plain(keras_mmrel.MICINet),
    "AIM": lambda: (keras_mmrel.AIM(blocks(), CLASSES, warmup=0.2), {}),
    "AIM random": lambda: (
        keras_mmrel.AIM(
            blocks(), CLASSES, warmup=0.2, auxiliary="random", target_weight=1.0
        ),
        {},
    ),
    "CAL": plain(keras_mmrel.CAL, holdout=0.3, bottleneck_start=0.2),
    "ConcatFusion": plain(keras_mmrel.ConcatFusion),
    "LateFusion": plain(keras_mmrel.LateFusion),
    "LateFusion judged": lambda: (
        keras_mmrel.LateFusion(
            SHAPES, CLASSES, quality=keras_mmrel.layers.InputQuality()
        ),
        {},
    ),
    "MMDynamics": plain(keras_mmrel.MMDynamics),
    "ReliableFusion": plain(keras_mmrel.ReliableFusion),
    "TMC": images,
    "QMF": plain(keras_mmrel.QMF),
    "PDF": plain(keras_mmrel.PDF),
    "ETMC": plain(keras_mmrel.ETMC),
    "RCML": plain(keras_mmrel.RCML),
    "MMCosine": plain(keras_mmrel.MMCosine),
    "DeepEnsemble": plain(keras_mmrel.DeepEnsemble, members=2),
    "MCDropout": plain(keras_mmrel.MCDropout),
    "UDML": plain(keras_mmrel.UDML, noise_from=0.2, weights_from=0.4),
    "OGM": modulated(modulations.OGM),
    "OGMGE": modulated(lambda: modulations.OGMGE(kernels="all")),
    "AGM": modulated(modulations.AGM),
    "ARL": modulated(modulations.ARL),
    "MMPareto": modulated(modulations.MMPareto),
    "OPM": modulated(modulations.OPM),
    "AMSS": modulated(modulations.AMSS),
}


def data(name, seed=0):
    x, y = vectors(SAMPLES, seed=seed)
    if name == "TMC":
        rng = np.random.default_rng(seed)
        image = rng.uniform(size=(SAMPLES, 8, 8, 1)) + y[:, None, None, None]
        x = {"image": image.astype("float32") / CLASSES, "a": x["a"]}
    return x, y


def make(name):
    model, options = MODELS[name]()
    model.compile(**options)
    return model


def callbacks(name, patience):
    """Callbacks with a memory, made anew as a script does."""
    reduce = keras.callbacks.ReduceLROnPlateau(
        factor=0.5, patience=1, min_delta=0.2
    )
    stop = keras.callbacks.EarlyStopping(
        patience=patience, min_delta=0.05, restore_best_weights=True
    )
    # Nothing reduces a rate that has its own schedule.
    return [stop] if name == "QADMNet prepared" else [reduce, stop]


def train(name, epochs, extra=(), patience=3):
    """Return the model and the history of a training, as a script has it."""
    model = make(name)
    x, y = data(name)
    history = model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=epochs,
        validation_data=data(name, seed=1),
        callbacks=[*extra, *callbacks(name, patience)],
        verbose=0,
    )
    return model, history


def everything(model):
    """All numbers that a training has come to."""
    return [
        np.asarray(keras.ops.convert_to_numpy(v))
        for v in [*model.variables, *model.optimizer.variables]
    ]


class Stop(keras.callbacks.Callback):
    """End the process, as far as the training can tell, after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
