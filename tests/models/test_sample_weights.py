"""Weight 0 is absence, other weights are for the loss, nonsense is refused."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import everywhere
from tests.helpers import vectors
from tests.models.aim_models import WithPaths

X, Y = vectors()
WEIGHT = np.ones(len(Y), "float32")
MODELS = {
    "ConcatFusion": {},
    "LateFusion": {},
    "MMDynamics": {},
    "TMC": {},
    "QMF": {"history_size": 96},
    "PDF": {},
    "QADMNet": {"warmup": 0.5},
    "MICINet": {"units": 8, "warmup": 0.5},
    "AIM": {"warmup": 0.0},
    "CAL": {"warmup": 0.0},
    "ReliableFusion": {},
    "WithPaths": {},
    "range control": {"quality": True},
}


def new_model(name, **options):
    keras.utils.set_random_seed(0)
    options = {**MODELS[name], **options, "seed": 1}
    if options.get("quality"):
        options["quality"] = keras_mmrel.layers.RangeControl()
        name = "LateFusion"
    if name == "WithPaths":
        model = WithPaths(SHAPES, 3, **options)
    else:
        model = getattr(keras_mmrel, name)(SHAPES, 3, **options)
    model.compile(modulation=keras_mmrel.modulations.OGMGE())
    return model


def with_garbage(scale, label):
    """The samples, each second row one that must not count."""
    rng = np.random.default_rng(5)
    x = {k: np.repeat(v, 2, axis=0) for k, v in X.items()}
    for value in x.values():
        value[1::2] = scale * rng.normal(size=value[1::2].shape)
    y = np.repeat(Y, 2)
    y[1::2] = label
    return x, y, np.tile([1.0, 0.0], len(Y)).astype("float32")


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize(
    "name", everywhere(MODELS, ["ConcatFusion", "QADMNet", "MICINet", "CAL"])
)
def test_what_a_sample_of_weight_0_holds_changes_no_weight(name):
    model = new_model(name)
    model.optimizer.build(model.trainable_variables)
    state = [*model.variables, *model.optimizer.variables]
    start = [np.array(v) for v in state]
    trained = []
    for scale, label in ((1.0, 0), (50.0, 2)):
        for variable, value in zip(state, start, strict=True):
            variable.assign(value)
        x, y, weight = with_garbage(scale, label)
        model.fit(
            x,
            y,
            sample_weight=weight,
            batch_size=48,
            shuffle=False,
            verbose=0,
        )
        trained.append([np.array(v) for v in state])
    for variable, new, old in zip(state, *trained, strict=True):
        np.testing.assert_array_equal(new, old, err_msg=variable.path)
    moved = zip(trained[0], start, strict=True)
    assert max(np.abs(new - old).max() for new, old in moved) > 1e-4


class Batches(keras.utils.PyDataset):
    """Batches of 16 samples, with weights or without."""

    def __init__(self, x, *others):
        super().__init__()
        self.arrays = (x, *others)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * index + 16)
        return keras.tree.map_structure(lambda v: v[rows], self.arrays)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("name", everywhere(MODELS, ["ConcatFusion", "TMC"]))
def test_a_wrong_label_of_a_later_batch_is_a_sample_of_weight_0(name):
    bad = np.arange(17, 48, 3)
    weight = np.ones(len(Y), "float32")
    weight[bad] = 0.0
    trained = []
    for label, scale, others in ((7, 50.0, ()), (0, 1.0, (weight,))):
        x, y = {k: v.copy() for k, v in X.items()}, Y.copy()
        for value in x.values():
            value[bad] *= scale
        y[bad] = label
        if name == "QMF":
            x["sample_id"] = np.arange(len(Y))
        # What a judge learns from is tested with it.
        judged = name in ("QADMNet", "MICINet", "ReliableFusion")
        model = new_model(name, **({"quality": None} if judged else {}))
        model.compile(model.optimizer, run_eagerly=EAGER)
        data = Batches(x, y, *others)
        if others:
            model.fit(data, shuffle=False, verbose=0)
        else:
            with pytest.raises(ValueError, match="Received: 11 other values"):
                model.fit(data, shuffle=False, verbose=0)
        trained.append([np.array(w) for w in kept_weights(model)])
    counts = ops.convert_to_numpy(model.class_counts)
    np.testing.assert_array_equal(counts, np.bincount(Y[weight > 0]))
    for variable, *values in zip(kept_weights(model), *trained, strict=True):
        np.testing.assert_allclose(*values, atol=1e-5, err_msg=variable.path)


def kept_weights(model):
    return [w for w in model.weights if "batch_watch" not in w.path]


def test_metrics_count_samples_of_weight_0_unless_they_are_weighted():
    model = keras_mmrel.ConcatFusion(SHAPES, 3, seed=0)
    accuracy = keras_mmrel.metrics.LabelAccuracy
    model.compile(
        metrics=[accuracy(name="plain")],
        weighted_metrics=[accuracy(name="weighted")],
    )
    x, y, weight = with_garbage(1.0, 0)
    found = [
        model.evaluate(
            x, label, sample_weight=weight, return_dict=True, verbose=0
        )
        for label in (y, np.where(weight > 0, y, 2), np.where(weight > 0, y, 1))
    ]
    for name, same in (("loss", True), ("weighted", True), ("plain", False)):
        assert (len({scores[name] for scores in found}) == 1) == same


# What rows of weight 0 change is nothing, which is tested on all backends.
@pytest.mark.slow_on("jax", "tensorflow")
def test_qadm_net_trusts_a_clean_modality_beside_rows_of_weight_0():
    x, y, weight = with_garbage(50.0, 0)
    beside, alone = new_model("QADMNet"), new_model("QADMNet")
    beside.fit(x, y, 32, 10, sample_weight=weight, verbose=0)
    alone.fit(X, Y, 16, 10, verbose=0)
    expected = alone.predict(X, verbose=0)["confidence"].mean()
    confidence = beside.predict(X, verbose=0)["confidence"].mean()
    # Batches differ, so it is not the same training. Without the weights:
    unweighted = new_model("QADMNet")
    unweighted.fit(x, y, 32, 10, verbose=0)
    trusted = unweighted.predict(X, verbose=0)["confidence"].mean()
    assert abs(confidence - expected) < 0.1 < expected - trusted


def test_classes_of_weight_0_are_not_counted():
    model = new_model("ConcatFusion")
    model.fit(X, Y, class_weight={0: 1.0, 1: 2.0, 2: 0.0}, verbose=0)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model.class_counts), [16, 16, 0]
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_other_weights_scale_the_loss_and_count_once():
    plain, weighted = new_model("QADMNet"), new_model("QADMNet")
    weight = np.linspace(0.1, 3.0, len(Y)).astype("float32")
    plain.train_on_batch(X, Y)
    weighted.train_on_batch(X, Y, weight)
    for name in ("counts", "means", "squares"):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(getattr(weighted.gate, name)),
            ops.convert_to_numpy(getattr(plain.gate, name)),
        )
    head = weighted.trainable_weights[0]
    assert not np.array_equal(
        ops.convert_to_numpy(head),
        ops.convert_to_numpy(plain.trainable_weights[0]),
    )


@pytest.fixture(scope="module")
def compiled():
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile()
    return model


def changed(value):
    weight = WEIGHT.copy()
    weight[7] = value
    return weight


BAD_WEIGHTS = {
    "nan": (changed(np.nan), "finite and not negative. Received: 1 others"),
    "inf": (changed(np.inf), "finite and not negative. Received: 1 others"),
    "negative": (changed(-1), "such as -1.0"),
    "short": (WEIGHT[:40], r"\(48,\). Received: shape=\(40,\)"),
    "rows": (np.ones((48, 3)), r"\(48,\). Received: shape=\(48, 3\)"),
    "text": (WEIGHT.astype(str), "hold numbers. Received: dtype=<U"),
    "list": (WEIGHT.tolist(), "an array of one number a sample.*list"),
    "dict": ({"logits": WEIGHT}, "hold numbers. Received: a dict"),
    "zeros": (WEIGHT * 0, "above 0 for a sample at least. Received: 48 zeros"),
}


# Refused on the host, before any backend is asked.
@pytest.mark.one_backend
@pytest.mark.parametrize(
    "method", ["fit", "evaluate", "train_on_batch", "test_on_batch"]
)
@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_sample_weights_are_refused(compiled, case, method):
    weight, text = BAD_WEIGHTS[case]
    with pytest.raises(ValueError, match=f"`sample_weight` must .*{text}"):
        getattr(compiled, method)(X, Y, sample_weight=weight)


def test_weights_of_validation_data_are_checked(compiled):
    with pytest.raises(ValueError, match="`sample_weight` must be finite"):
        compiled.fit(X, Y, validation_data=(X, Y, WEIGHT * np.nan), verbose=0)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("weight", "text"),
    [
        ({0: 1.0, 1: np.nan, 2: 1.0}, "Received: {1: nan}"),
        ({0: 1.0, 1: np.inf, 2: 1.0}, "Received: {1: inf}"),
        ({0: 1.0, 1: -2.0, 2: 1.0}, "Received: {1: -2.0}"),
        ({0: 1.0, 1: "2", 2: 1.0}, "Received: {1: '2'}"),
        ({0: 1.0, 1: 1.0, 3: 1.0}, r"unknown classes \[3\].*weight \[2\]"),
        ({0: 1.0, 1: 1.0}, r"without a weight \[2\]"),
        ({"0": 1.0, 1: 1.0, 2: 1.0}, r"unknown classes \['0'\]"),
        ({0: 0.0, 1: 0.0, 2: 0.0}, "Received: only zeros"),
        ([1.0, 1.0, 1.0], "Received: list"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_bad_class_weights_are_refused(compiled, method, weight, text):
    with pytest.raises(ValueError, match=f"`class_weight` must .*{text}"):
        getattr(compiled, method)(X, Y, class_weight=weight)


@pytest.mark.slow_on("jax")
def test_usable_weights_of_all_forms_train(compiled):
    for weight in (WEIGHT, WEIGHT[:, None], WEIGHT.astype("int64")):
        history = compiled.fit(X, Y, sample_weight=weight, verbose=0).history
        assert np.isfinite(history["loss"]).all()
    weights = {np.int64(k): np.float64(1.5) for k in range(3)}
    compiled.fit(X, Y, class_weight=weights, verbose=0)


def test_weights_may_be_truth_values():
    model = new_model("ConcatFusion")
    model.fit(X, Y, sample_weight=Y != 2, verbose=0)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model.class_counts), [16, 16, 0]
    )
