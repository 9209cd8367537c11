"""Rows, training and scores of the comparison on modality imbalance.

Shared by `av_digits.py` and its tests; not a script of its own. All rows see
the same data, encoders, optimizer and number of steps.
"""

import time
import warnings
from collections.abc import Callable

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression

import keras_mmrel
from keras_mmrel import modulations
from keras_mmrel.corruptions import GaussianNoise

# -- Encoders ----------------------------------------------------------------


def convolutions(rank, channels, strides, shape) -> list:
    """Blocks of convolution, batch normalisation and ReLU."""
    layer = keras.layers.Conv1D if rank == 1 else keras.layers.Conv2D
    return [
        keras.Sequential(
            [
                *([keras.Input(shape)] if index == 0 else []),
                layer(
                    count,
                    3,
                    strides=step,
                    padding="same",
                    use_bias=False,
                    kernel_initializer="he_normal",
                ),
                keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
                keras.layers.ReLU(),
            ]
        )
        for index, (count, step) in enumerate(
            zip(channels, strides, strict=True)
        )
    ]


def dense(width, shape) -> list:
    """Three blocks of a dense layer, batch normalisation and ReLU."""
    return [
        keras.Sequential(
            [
                *([keras.Input(shape)] if index == 0 else []),
                keras.layers.Dense(
                    width, use_bias=False, kernel_initializer="he_normal"
                ),
                keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
                keras.layers.ReLU(),
            ]
        )
        for index in range(3)
    ]


def encoder(shape) -> list:
    if len(shape) == 2:
        return convolutions(1, (32, 32, 32), (2, 2, 2), shape)
    if len(shape) == 3:
        return convolutions(2, (16, 32, 32), (2, 2, 1), shape)
    return dense(32, shape)


# -- Rows --------------------------------------------------------------------


def joint(gamma=0.0, modulation=None, only=None) -> Callable:
    def make(encoders, classes, seed):
        if only is not None:
            encoders = {only: encoders[only]}
        model = keras_mmrel.ConcatFusion(
            encoders, classes, modality_loss_weight=gamma
        )
        return model, modulation() if modulation else None

    return make


def aim(**options) -> Callable:
    def make(encoders, classes, seed):
        return keras_mmrel.AIM(encoders, classes, seed=seed, **options), "auto"

    return make


def cal(**options) -> Callable:
    def make(encoders, classes, seed):
        return keras_mmrel.CAL(encoders, classes, seed=seed, **options), "auto"

    return make


def slow(make) -> Callable:
    """The same with a fifth of the learning rate."""

    def same(*args):
        return make(*args)

    same.learning_rate = 0.02
    return same


# No method acts in the first 15 % of the epochs but by its unimodal losses.
GAMMA = 3.0
BASELINES = {
    "joint": joint(),
    "joint + unimodal losses, 1": joint(1.0),
    "joint + unimodal losses": joint(GAMMA),
    "OGM-GE": joint(modulation=lambda: modulations.OGMGE(0.3, start_epoch=3)),
    "ARL": joint(4.0, lambda: modulations.ARL(start_epoch=3)),
    "ARL, uniform": joint(
        4.0, lambda: modulations.ARL(uniform=True, start_epoch=3)
    ),
}
AV_ROWS = {
    "audio alone": joint(only="audio"),
    "image alone": joint(only="image"),
    **BASELINES,
    "AIM": aim(),
    "AIM + unimodal losses, 1": aim(modality_loss_weight=1.0),
    "AIM + unimodal losses": aim(modality_loss_weight=GAMMA),
    "- random masks": aim(selection="random"),
    "- over-optimised masks": aim(selection="over_optimised"),
    "- zeroed block": aim(selection="none"),
    "- constant strength": aim(strength=0.5),
    "- injected prototypes": aim(prototypes="injected"),
    "- whole batch": aim(split_batch=False),
    "CAL": cal(),
    "CAL, no unimodal losses": cal(modality_loss_weight=0.0),
    "+ acceleration": cal(acceleration=1.0),
    "+ uniform acceleration": cal(
        acceleration=1.0, acceleration_scheme="uniform"
    ),
    "+ inverted acceleration": cal(
        acceleration=1.0, acceleration_scheme="inverted"
    ),
    "- no bottleneck": cal(bottleneck=0.0),
    "- uniform bottleneck": cal(bottleneck_scheme="uniform", bottleneck=0.5),
    "- inverted bottleneck": cal(bottleneck_scheme="inverted", bottleneck=0.5),
    "- information only": cal(measure="information"),
    "- confidence only": cal(measure="confidence"),
    "- contributions in training": cal(holdout=0.0),
}


# -- One run -----------------------------------------------------------------


class Stopwatch(keras.callbacks.Callback):
    """Seconds of every epoch's steps."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def run(row, train, test, seed, rows, epochs, batch_size):
    """Train one row and return its scores as a flat dict."""
    (x, y), (x_test, y_test) = train, test
    keras.utils.set_random_seed(seed)
    encoders = {name: encoder(v.shape[1:]) for name, v in x.items()}
    model, modulation = rows[row](encoders, int(y.max()) + 1, seed)
    x = {name: x[name] for name in model.modality_names}
    x_test = {name: x_test[name] for name in model.modality_names}
    steps = len(y) // batch_size
    # The last, incomplete batch of the shuffled samples is dropped by leaving
    # out samples that change with the seed.
    kept = np.random.default_rng(seed).permutation(len(y))[: steps * batch_size]
    x, y = {name: v[kept] for name, v in x.items()}, y[kept]
    first = getattr(rows[row], "learning_rate", 0.1)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [steps * round(0.7 * epochs)], [first, 0.1 * first]
    )
    # Keras' decay is decoupled: 1e-3 is the 1e-4 of a coupled one at
    # momentum 0.9.
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=1e-3)
    model.compile(optimizer, modulation=modulation)
    watch = Stopwatch()
    history = model.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=[watch],
    ).history
    scores = score(model, (x, y), (x_test, y_test))
    scores["ms a step"] = 1e3 * float(np.median(watch.seconds)) / steps
    for key, values in history.items():
        if key.endswith(("_contribution", "_bottleneck", "_strength")):
            scores[key] = values[-1]
        if key.endswith("_coefficient"):
            scores[key] = float(np.mean(values))
    return {name: round(float(value), 4) for name, value in scores.items()}


def score(model, train, test):
    (x, y), (x_test, y_test) = train, test

    def accuracy(logits):
        return 100 * float((logits.argmax(axis=-1) == y_test).mean())

    def predict(inputs):
        return model.predict(inputs, batch_size=500, verbose=0)

    clean = predict(x_test)
    scores = {"ACC": accuracy(clean["logits"])}
    noise = GaussianNoise(1.0, "all")(x_test, seed=123)
    scores["noise"] = accuracy(predict(noise)["logits"])
    for index, name in enumerate(model.modality_names):
        scores[f"head {name}"] = accuracy(clean["modality_logits"][:, index])
        features = [encode(model, index, d[name]) for d in (x, x_test)]
        scores[f"probe {name}"] = probe(features, y, y_test)
        noise = GaussianNoise(1.0, [name])(x_test, seed=123)
        scores[f"noise {name}"] = accuracy(predict(noise)["logits"])
    return scores


def encode(model, index, values):
    feature = model.encoders[index](values, training=False)
    return keras.ops.convert_to_numpy(feature)


def probe(features, y, y_test):
    """Test accuracy of a linear classifier on one encoder's features."""
    train, test = features
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    classifier = LogisticRegression(C=0.1, max_iter=60)
    with warnings.catch_warnings():
        # 60 iterations are the protocol, not convergence.
        warnings.simplefilter("ignore")
        classifier.fit((train - mean) / deviation, y)
    return 100 * classifier.score((test - mean) / deviation, y_test)


# -- Data --------------------------------------------------------------------


def noise_view(views, replaced, train, test):
    """Make three views hard, and one of them pure noise.

    Args:
        views: Dict of view name -> standard deviation of the noise that is
            added to the standardised view.
        replaced: Name of the view of which nothing but noise is left.
        train: `(x, y)`.
        test: `(x, y)`.
    """
    rng = np.random.default_rng(500)
    parts = [{}, {}]
    for name, sigma in views.items():
        first, second = train[0][name], test[0][name]
        kept = first.std(axis=0) > 1e-3
        mean, deviation = first.mean(axis=0)[kept], first.std(axis=0)[kept]
        arrays = []
        for values in (first, second):
            values = (values[:, kept] - mean) / deviation
            noise = rng.normal(size=values.shape)
            hard = (values + sigma * noise) / np.sqrt(1 + sigma**2)
            arrays.append(noise if name == replaced else hard)
        for part, values in zip(parts, arrays, strict=True):
            part[name] = values.astype("float32")
    return (parts[0], train[1]), (parts[1], test[1])


NOISE_ROWS = {
    "joint": joint(),
    "joint + unimodal losses, 1": joint(1.0),
    "joint + unimodal losses": joint(GAMMA),
    "CAL": cal(),
    "- no bottleneck": cal(bottleneck=0.0),
    # Of the same total as one view at full strength.
    "- uniform bottleneck": cal(bottleneck_scheme="uniform", bottleneck=1 / 3),
    "- inverted bottleneck": cal(
        bottleneck_scheme="inverted", bottleneck=1 / 2
    ),
    "- information only": cal(measure="information"),
    "- confidence only": cal(measure="confidence"),
    "- information and its trend": cal(measure="trend"),
    "- contributions in training": cal(holdout=0.0),
    "slow, no acceleration": slow(cal(modality_loss_weight=0.0)),
    "slow, acceleration": slow(cal(modality_loss_weight=0.0, acceleration=1.0)),
    "slow, uniform acceleration": slow(
        cal(
            modality_loss_weight=0.0,
            acceleration=1.0,
            acceleration_scheme="uniform",
        )
    ),
    "slow, inverted acceleration": slow(
        cal(
            modality_loss_weight=0.0,
            acceleration=1.0,
            acceleration_scheme="inverted",
        )
    ),
}
