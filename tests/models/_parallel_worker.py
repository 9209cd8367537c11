"""What `test_data_parallel.py` trains on two devices."""

import keras
import numpy as np

import keras_mmrel
from tests.models import aim_models
from tests.models import cal_models
from tests.models.aim_models import X
from tests.models.aim_models import Y

CAL = {
    "modality_loss_weight": 1.0,
    "acceleration": 0.5,
    "holdout": 0.25,
    "release": 0.5,
    "sample_bottleneck": "typicality",
}
AIM = {"depths": {"a": 2, "b": 1}, "warmup": 0.5, "modality_loss_weight": 0.5}
# Options and epochs.
CASES = {
    "CAL": (CAL, 2),
    "CAL with a bottleneck and no noise": (
        {**CAL, "bottleneck": 0.5, "release": 1.0},
        1,
    ),
    "CAL with noise": ({**CAL, "bottleneck": 0.5}, 2),
    # Each device's samples are divided among the modalities.
    "AIM": ({**AIM, "strength": 1.0, "target_weight": 1.0}, 3),
    "AIM without losses": (
        {**AIM, "strength": "imbalance", "rely_weight": 0.0},
        3,
    ),
    "AIM with chance": ({**AIM, "strength": 0.5, "auxiliary": "random"}, 3),
    "MICINet with chance": ({"units": 6, "dropout": 0.2}, 3),
    "LateFusion with a judge": ({}, 1),
    # The gradient of its embedding is that of the whole batch's moments.
    "MICINet without chance": (
        {
            "units": 6,
            "dropout": 0.0,
            "input_dropout": 0.0,
            "injection": 0.0,
            "removal": False,
            "compensation": False,
        },
        1,
    ),
    "MICINet for one step": (
        {"units": 6, "dropout": 0.0, "input_dropout": 0.0},
        1,
    ),
}

# The halves of every batch of 12 hold modalities, held-out samples and
# weights in unequal numbers, so that a mean of the halves' means is another
# number.
MASK = np.ones((24, 2), "float32")
MASK[[1, 4, 5, 13], 0] = 0
MASK[[6, 22], 1] = 0
DATA = {**X, "modality_mask": MASK}
HELD_OUT = np.isin(np.arange(24), [0, 1, 2, 3, 7, 12, 19, 20, 23])
WEIGHT = np.linspace(0.5, 1.5, 24)


def judged(model_class, **options):
    """A model whose judge learns from what its own process has."""
    keras.utils.set_random_seed(0)
    return model_class(
        {"a": (5,), "b": (4,)},
        3,
        quality=keras_mmrel.layers.InputQuality(),
        seed=0,
        **options,
    )


def many(rows):
    """Enough samples for a judge, other ones in each process."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rows + 24 * i for i in range(4)])
    x = {
        "a": rng.normal(size=(96, 5)).astype("float32"),
        "b": rng.normal(size=(96, 4)).astype("float32"),
    }
    # The first process has nothing but zeros in one modality.
    x["b"][np.arange(96) % 12 < 6] = 0.0
    return {name: value[rows] for name, value in x.items()}, rows % 3


def micinet(model_class, **options):
    shapes = {name: values.shape[1:] for name, values in X.items()}
    keras.utils.set_random_seed(0)
    return model_class(shapes, int(Y.max()) + 1, seed=0, **options)


def run(case, rows=None, batch_size=12, compiled=True, parallel=None):
    """Train one case."""
    options, epochs = CASES[case]
    rows = np.arange(24) if rows is None else np.array(rows)
    kind = case.split()[0]
    make = {
        "CAL": cal_models.make,
        "AIM": aim_models.make,
        "MICINet": micinet,
        "LateFusion": judged,
    }
    data = dict(DATA)
    if kind == "CAL":
        data["held_out"] = HELD_OUT.astype("float32")
    model_class = getattr(keras_mmrel, kind)
    model = make[kind](
        model_class=parallel(model_class) if parallel else model_class,
        **options,
    )
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=not compiled)
    if "no noise" in case:
        for layer in model.bottlenecks:
            layer.strength.assign(0.5)
            layer.noise_scale.assign(0.0)
    if "judge" in case:
        x, y = many(rows)
        model.fit(x, y, batch_size=4 * batch_size, shuffle=False, verbose=0)
        return model, []
    model.fit(
        {k: v[rows] for k, v in data.items()},
        Y[rows],
        batch_size=batch_size,
        epochs=epochs,
        # The first step sets the scale of the noise for those after it.
        steps_per_epoch=1 if "no noise" in case or "one step" in case else None,
        sample_weight=WEIGHT[rows],
        shuffle=False,
        verbose=0,
    )
    return model, []


def estimates(model):
    """All that a model has estimated from the labels and the features."""
    if isinstance(model, keras_mmrel.CAL):
        typical = [w for t in model.typicalities for w in t.weights]
        return [model.class_counts, *model.contribution.weights, *typical]
    if isinstance(model, keras_mmrel.MICINet):
        # Not the tables, for which classes are drawn.
        return [
            model.class_counts,
            model.embed.center.mean,
            model.embed.standardize.mean,
            model.embed.standardize.variance,
            model.fusion.global_ici.confusion,
        ]
    return [
        model.class_counts,
        *(
            weight
            for encoder in model.encoders
            for statistics in encoder.statistics
            for weight in statistics.weights
        ),
    ]
