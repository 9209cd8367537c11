"""What every modulation shares: placing, windows, logs, saving, bad input."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import GradientScale
from keras_mmrel.modulations import AGM
from keras_mmrel.modulations import ARL
from keras_mmrel.modulations import OGM
from keras_mmrel.modulations import OGMGE
from keras_mmrel.modulations import GradientModulation
from tests.modulations.helpers import Constant
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import assert_equal_weights
from tests.modulations.helpers import distance
from tests.modulations.helpers import make_model
from tests.modulations.helpers import train
from tests.modulations.helpers import travel
from tests.modulations.helpers import weights

SGD = keras.optimizers.SGD
Adam = keras.optimizers.Adam
LossScale = keras.optimizers.LossScaleOptimizer


def plain_config(modulation):
    return json.loads(json.dumps(modulation.get_config()))


# -- Where the coefficients act ------------------------------------------------


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize(
    "optimizer, compiled, atol", [(SGD, True, 0.0), (Adam, False, 1e-6)]
)
def test_the_identity_changes_nothing(optimizer, compiled, atol):
    model, _ = train(GradientModulation(), optimizer(0.05), compiled=compiled)
    expected, _ = train(None, optimizer(0.05), compiled=compiled)
    assert_equal_weights(weights(model), weights(expected), atol=atol)


@pytest.mark.parametrize(
    "optimizer, updates",
    [
        (lambda: SGD(0.1, momentum=0.9), False),
        (lambda: Adam(), True),
        (lambda: keras.optimizers.RMSprop(), True),
        (lambda: LossScale(SGD(0.1)), False),
        (lambda: LossScale(Adam()), True),
    ],
)
def test_auto_edits_gradients_under_sgd_and_updates_elsewhere(
    optimizer, updates
):
    model = make_model()
    for apply_to, expected in [
        ("auto", updates),
        ("gradients", False),
        ("updates", True),
    ]:
        model.compile(optimizer(), modulation=OGM(apply_to=apply_to))
        assert model.modulation_slot.edits_updates == expected
    model.compile(optimizer(), modulation=None)
    assert not model.modulation_slot.edits_updates


@pytest.mark.slow_on("jax")
def test_adam_cancels_scaled_gradients_but_not_scaled_updates():
    plain = travel(None, Adam(0.01))
    for apply_to, factor, rtol in [
        ("gradients", 1.0, 1e-2),
        ("updates", 0.1, 1e-5),
        ("auto", 0.1, 1e-5),
    ]:
        moved = travel(Constant((0.1, 1.0), apply_to=apply_to), Adam(0.01))
        np.testing.assert_allclose(
            np.abs(moved["a"]).sum(), factor * np.abs(plain["a"]).sum(), rtol
        )
        for name in ("b", "fusion"):
            np.testing.assert_array_equal(moved[name], plain[name])
        if factor == 0.1:
            np.testing.assert_allclose(moved["a"], 0.1 * plain["a"], atol=2e-7)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_coefficient_zero_stops_the_encoders_but_not_the_fusion(optimizer):
    moved = travel(Constant((0.0, 0.0)), optimizer(0.1))
    assert np.abs(moved["a"]).max() < 1e-7
    assert np.abs(moved["b"]).max() < 1e-7
    assert np.abs(moved["fusion"]).max() > 1e-3


def test_gradient_scale_equals_a_constant_coefficient():
    scaled = make_model(
        last=lambda name: [GradientScale(0.3 if name == "a" else 2.0)]
    )
    expected, _ = train(None, model=scaled, epochs=3)
    model, _ = train(Constant((0.3, 2.0)), epochs=3)
    assert_equal_weights(
        weights(model), weights(expected), rtol=1e-6, atol=1e-7
    )
    plain, _ = train(None, epochs=3)
    assert distance(weights(model), weights(plain)) > 1e-3


# -- Windows -------------------------------------------------------------------


class WeightRecord(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.epochs = [*getattr(self, "epochs", []), weights(self.model)]


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("optimizer, compiled", [(SGD, False), (Adam, True)])
def test_outside_its_window_a_modulation_does_nothing(optimizer, compiled):
    traces = []

    class Traced(Constant):
        def compute_coefficients(self, labels, outputs, present):
            traces.append(None)
            return super().compute_coefficients(labels, outputs, present)

    ours, plain = WeightRecord(), WeightRecord()
    counts = []
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: counts.append(len(traces))
    )
    _, history = train(
        Traced((0.2, 1.0), warmup=0.25, until=0.75),
        optimizer(0.05),
        compiled=compiled,
        epochs=4,
        callbacks=[ours, count],
    )
    train(None, optimizer(0.05), None, compiled, epochs=4, callbacks=[plain])
    # Two epochs of warm-up, one of modulation, one after it.
    for epoch in (0, 1):
        assert_equal_weights(ours.epochs[epoch], plain.epochs[epoch], atol=1e-7)
    assert distance(ours.epochs[2], plain.epochs[2]) > 1e-3
    np.testing.assert_allclose(history["a_coefficient"], [1, 1, 0.2, 1])
    np.testing.assert_allclose(history["b_coefficient"], 1)
    if not compiled or keras.config.backend() == "torch":
        assert counts == [2, 4, 6, 8]
    else:
        assert len(set(counts)) == 1
    if optimizer is SGD:
        # After the window: plain training from where it has left off.
        model = make_model()
        for variable, value in zip(
            model.trainable_variables, ours.epochs[2], strict=True
        ):
            variable.assign(value)
        train(None, optimizer(0.05), model, epochs=1)
        assert_equal_weights(ours.epochs[3], weights(model), atol=1e-7)


# -- Logs ----------------------------------------------------------------------


class Share(GradientModulation):
    """Coefficients that can be read off the labels of a batch."""

    def compute_coefficients(self, labels, outputs, present):
        return ops.mean(labels, axis=0)[:2]


@pytest.mark.slow_on("jax")
def test_logs_hold_the_mean_coefficients_of_every_epoch(tmp_path):
    path = tmp_path / "log.csv"
    labels = np.sort(Y)
    model, history = train(
        Share(),
        y=labels,
        epochs=2,
        validation_data=(X, Y),
        callbacks=[keras.callbacks.CSVLogger(path)],
    )
    rows = np.eye(3)[labels].reshape(2, 12, 3).mean(axis=1)
    header, *lines = path.read_text().split()
    columns = header.split(",")
    for index, name in enumerate("ab"):
        key = f"{name}_coefficient"
        mean = rows[:, index].mean()
        np.testing.assert_allclose(history[key], [mean] * 2, rtol=1e-6)
        for line in lines:
            logged = float(line.split(",")[columns.index(key)])
            np.testing.assert_allclose(logged, mean, rtol=1e-6)
    assert "val_loss" in history
    assert not [k for k in history if k.startswith("val_") and "coeff" in k]
    held_out = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert not [k for k in held_out if "coefficient" in k]


def test_tensorboard_shows_the_coefficients(tmp_path):
    if keras.config.backend() != "tensorflow":
        pytest.skip("keras.callbacks.TensorBoard needs TensorFlow")
    pytest.importorskip("tensorboard")
    import tensorflow as tf

    board = keras.callbacks.TensorBoard(str(tmp_path))
    train(Constant((0.25, 1.0)), epochs=2, callbacks=[board])
    seen = {}
    for path in tmp_path.glob("train/*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                number = tf.make_ndarray(value.tensor)
                seen.setdefault(value.tag, []).append(number)
    np.testing.assert_allclose(seen["epoch_a_coefficient"], [0.25, 0.25])
    np.testing.assert_allclose(seen["epoch_b_coefficient"], [1, 1])


# -- Saving --------------------------------------------------------------------


@pytest.mark.parametrize(
    "modulation",
    [
        GradientModulation("updates", 0.3, 0.8),
        OGM(0.7, apply_to="gradients", warmup=0.2),
        OGMGE(0.6, "all", 0.25, 11, until=0.4),
        AGM(0.2, apply_to="updates"),
        ARL(3.0, True, name="mine"),
    ],
)
def test_a_config_makes_the_same_modulation(modulation):
    config = plain_config(modulation)
    copy = type(modulation).from_config(config)
    assert plain_config(copy) == config
    for name in ("apply_to", "warmup", "until", "name"):
        assert config[name] == getattr(modulation, name)


@pytest.mark.parametrize(
    "make, optimizer",
    [
        (lambda: AGM(0.9), lambda: Adam(0.02)),
        (lambda: OGMGE(0.5, kernels="all", seed=5), lambda: SGD(0.1)),
    ],
)
def test_a_loaded_model_continues_as_if_never_saved(tmp_path, make, optimizer):
    model, _ = train(make(), optimizer(), compiled=True)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded.modulation) is type(model.modulation)
    assert plain_config(loaded.modulation) == plain_config(model.modulation)
    state = [ops.convert_to_numpy(v) for v in model.modulation.variables]
    assert (state[0] != 1).any()
    for ours, theirs in zip(loaded.modulation.variables, state, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), theirs)
    logs = [
        m.fit(X, Y, 12, 1, 0, shuffle=False).history for m in (model, loaded)
    ]
    for key, values in logs[0].items():
        np.testing.assert_allclose(logs[1][key], values, rtol=1e-6)
    assert_equal_weights(weights(loaded), weights(model), atol=1e-7)
    coefficients = ops.convert_to_numpy(model.modulation.coefficients)
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded.modulation.coefficients), coefficients
    )


def test_recompiling_leaves_no_stale_weights():
    model = make_model()
    model.compile("sgd")
    bare = len(model.variables)
    train(AGM(), model=model)
    train(OGM(), model=model)
    assert sum(v.path.endswith("/seen") for v in model.variables) == 0
    state = len(model.modulation.variables)
    # The metrics and the optimizer are the same ones as without.
    assert len(model.variables) == bare + state
    again = model.modulation
    train(again, model=model)
    assert model.modulation is again
    assert len(model.variables) == bare + state
    train(None, model=model)
    assert len(model.variables) == bare


@pytest.mark.parametrize("source, target", [(None, AGM), (AGM, None)])
def test_weights_load_whether_or_not_there_is_a_modulation(
    tmp_path, source, target
):
    first, second = make_model(), make_model()
    first.compile("sgd", modulation=source and source())
    second.compile("sgd", modulation=target and target())
    for variable in first.trainable_variables:
        variable.assign(variable * 2.0)
    first.save_weights(tmp_path / "x.weights.h5")
    second.load_weights(tmp_path / "x.weights.h5")
    assert_equal_weights(weights(second), weights(first))
    train(second.modulation, model=second)


# -- Bad input -----------------------------------------------------------------


@pytest.mark.parametrize("modulation", ["OGM", OGM, 0.5, lambda g: g])
def test_what_is_no_modulation_is_refused(modulation):
    with pytest.raises(ValueError, match="`modulation` must be a `keras_mm"):
        make_model().compile("sgd", modulation=modulation)


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf, True, "1", None])
@pytest.mark.parametrize(
    "strategy, name",
    [
        (OGM, "alpha"),
        (OGMGE, "alpha"),
        (OGMGE, "noise"),
        (AGM, "alpha"),
        (ARL, "temperature"),
    ],
)
def test_a_bad_strength_is_named(strategy, name, bad):
    with pytest.raises(ValueError, match=f"`{name}` must be a finite, non-neg"):
        strategy(**{name: bad})


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"apply_to": "weights"}, "`apply_to` must be one of .*'weights'"),
        ({"apply_to": None}, "`apply_to` must be one of .*None"),
        ({"warmup": -1}, "`warmup` must be a number in .0, 1."),
        ({"until": True}, "`until` must be a number in .0, 1."),
        ({"warmup": 0.3, "until": 0.3}, "warmup=0.3, until=0.3"),
        ({"warmup": 0.5, "until": 0.2}, "`until` must be above `warmup`"),
    ],
)
def test_bad_options_of_every_modulation_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        OGM(**kwargs)


def test_unknown_kernels_are_named():
    with pytest.raises(ValueError, match="`kernels` must be one of .*'dense'"):
        OGMGE(kernels="dense")


@pytest.mark.parametrize("shapes", [{"a": (6,), "b": (4,)}, {"c": (3,)}])
def test_a_modulation_belongs_to_one_model(shapes):
    modulation = OGM()
    model = make_model()
    model.compile("sgd", modulation=modulation)
    with pytest.raises(ValueError, match="one model only"):
        make_model(shapes).compile("sgd", modulation=modulation)
    model.compile("sgd", modulation=modulation)


@pytest.mark.parametrize("wrap", [lambda o: o, LossScale])
def test_an_average_that_overwrites_weights_is_refused(wrap):
    def optimizer(kind):
        return wrap(kind(0.1, use_ema=True, ema_overwrite_frequency=5))

    with pytest.raises(ValueError, match="frequency=5"):
        make_model().compile(optimizer(Adam), modulation=OGM())
    make_model().compile(optimizer(SGD), modulation=OGM())


# -- Nothing to modulate -------------------------------------------------------


@pytest.mark.slow_on("jax")
def test_with_one_modality_only_training_is_as_without():
    shapes = {"a": (6,)}
    data = {"x": {"a": X["a"]}, "y": Y}
    for optimizer in (SGD, Adam):
        model, history = train(
            OGM(0.9), optimizer(0.1), make_model(shapes), **data
        )
        expected, _ = train(None, optimizer(0.1), make_model(shapes), **data)
        assert_equal_weights(weights(model), weights(expected), atol=1e-7)
        assert history["a_coefficient"] == [1.0]


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("strategy", [OGM, OGMGE, AGM, ARL])
def test_a_modality_that_is_never_there_keeps_its_coefficient(strategy):
    shapes = {"a": (6,), "b": (4,), "c": (5,)}
    mask = np.ones((24, 3), "float32")
    mask[:, 1] = 0
    x = {**X, "b": X["b"] * np.nan, "c": X["a"][:, :5]}
    model, history = train(
        strategy(),
        model=make_model(shapes),
        x={**x, "modality_mask": mask},
        y=Y,
        epochs=2,
    )
    assert all(np.isfinite(v).all() for v in history.values())
    assert all(np.isfinite(v).all() for v in weights(model))
    assert history["b_coefficient"] == [1.0, 1.0]
    others = (history["a_coefficient"][1], history["c_coefficient"][1])
    assert others != (1.0, 1.0)
