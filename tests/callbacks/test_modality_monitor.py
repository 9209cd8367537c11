import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.callbacks import ModalityMonitor
from tests.helpers import to_numpy
from tests.helpers import vectors

SHAPES = {"a": (6,), "b": (4,)}
X, Y = vectors(samples=24, shapes=SHAPES)
HELD, HELD_Y = vectors(samples=30, shapes=SHAPES, seed=0)
HELD = {
    k: v + 0.3 * np.random.default_rng(1).normal(size=v.shape)
    for k, v in HELD.items()
}
HELD = {k: v.astype("float32") for k, v in HELD.items()}


def fit(monitor=None, epochs=3, callbacks=(), model=None):
    if model is None:
        encoders = {
            name: keras.Sequential(
                [keras.Input(shape), keras.layers.Dense(8, "relu")]
            )
            for name, shape in SHAPES.items()
        }
        model = keras_mmrel.ConcatFusion(encoders, 3, modality_loss_weight=1.0)
        model.compile(keras.optimizers.Adam(0.03))
    callbacks = [*([monitor] if monitor else []), *callbacks]
    history = model.fit(
        X,
        Y,
        batch_size=12,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    ).history
    return model, history


@pytest.fixture(scope="module")
def watched():
    # Made before the seed of any test.
    keras.utils.set_random_seed(2)
    monitor = ModalityMonitor(HELD, HELD_Y, batch_size=7)
    return *fit(monitor), monitor


@pytest.mark.slow_on("tensorflow")
def test_columns_are_in_history_and_in_the_monitor(watched):
    _, history, monitor = watched
    assert set(monitor.history) == {
        "val_a_accuracy",
        "val_b_accuracy",
        "val_a_contribution",
        "val_b_contribution",
        "val_modality_imbalance",
    }
    for key, values in monitor.history.items():
        assert history[key] == values
        assert len(values) == 3
    assert monitor.epochs == [0, 1, 2]


def test_numbers_equal_those_computed_by_hand(watched):
    model, history, _ = watched

    def rights(a, b):
        mask = np.tile(np.array([a, b], "float32"), (30, 1))
        out = model.predict({**HELD, "modality_mask": mask}, verbose=0)
        right = (out["logits"].argmax(axis=1) == HELD_Y).mean()
        return (right - 1 / 3) / (2 / 3)

    logits = model.predict(HELD, verbose=0)["modality_logits"]
    alone = [(logits[:, m].argmax(1) == HELD_Y).mean() for m in range(2)]
    first, second, both = rights(1, 0), rights(0, 1), rights(1, 1)
    last = {k: v[-1] for k, v in history.items()}
    np.testing.assert_allclose(last["val_a_accuracy"], alone[0], atol=1e-6)
    np.testing.assert_allclose(last["val_b_accuracy"], alone[1], atol=1e-6)
    np.testing.assert_allclose(
        last["val_a_contribution"], (first + both - second) / 2, atol=1e-6
    )
    np.testing.assert_allclose(
        last["val_b_contribution"], (second + both - first) / 2, atol=1e-6
    )
    np.testing.assert_allclose(
        last["val_modality_imbalance"], max(alone) / min(alone), atol=1e-5
    )
    assert abs(first - second) > 0.05


@pytest.mark.slow_on("tensorflow")
def test_watching_does_not_change_the_training(watched):
    keras.utils.set_random_seed(0)
    with_monitor = fit(ModalityMonitor(HELD, HELD_Y), epochs=2)[0]
    keras.utils.set_random_seed(0)
    without = fit(epochs=2)[0]
    for a, b in zip(with_monitor.weights, without.weights, strict=True):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), atol=1e-6)


def test_one_hot_labels_and_no_contributions(watched):
    model, history, _ = watched
    monitor = ModalityMonitor(HELD, np.eye(3)[HELD_Y], contributions=False)
    monitor.set_model(model)
    found = monitor.look()
    assert set(found) == {
        "val_a_accuracy",
        "val_b_accuracy",
        "val_modality_imbalance",
    }
    assert found["val_a_accuracy"] == history["val_a_accuracy"][-1]


def test_probes_are_fitted_on_the_features(watched):
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = watched[0]
    monitor = ModalityMonitor(
        HELD, HELD_Y, "probe", (X, Y), contributions=False, batch_size=5
    )
    monitor.set_model(model)
    found = monitor.look()
    for index, name in enumerate(SHAPES):
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, max_iter=200)
        )
        probe.fit(to_numpy(model.encoders[index](X[name])), Y)
        features = to_numpy(model.encoders[index](HELD[name]))
        np.testing.assert_allclose(
            found[f"val_{name}_accuracy"], probe.score(features, HELD_Y)
        )


def test_every_second_epoch_and_the_last(watched):
    monitor = ModalityMonitor(HELD, HELD_Y, contributions=False, every=2)
    _, history = fit(monitor, epochs=5, model=watched[0])
    assert monitor.epochs == [1, 3, 4]
    assert len(history["val_a_accuracy"]) == 3
    # A new `fit` is a new record.
    fit(monitor, epochs=1, model=watched[0])
    assert monitor.epochs == [0]


def test_early_stopping_sees_the_logs(watched):
    stop = keras.callbacks.EarlyStopping(
        "val_b_accuracy", mode="max", min_delta=2.0, patience=1
    )
    monitor = ModalityMonitor(HELD, HELD_Y, contributions=False)
    fit(monitor, epochs=9, callbacks=[stop], model=watched[0])
    assert stop.stopped_epoch == 1
    assert monitor.epochs == [0, 1]


def test_plot_draws_every_quantity_into_a_file(watched, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "monitor.png"
    figure = watched[2].plot(path)
    assert path.stat().st_size > 5000
    assert len(figure.axes) == 3
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 1]
    line = figure.axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(
        line.get_ydata(), watched[2].history["val_a_accuracy"]
    )
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "a"


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"accuracy": "best"}, "accuracy='best'"),
        ({"accuracy": "probe"}, "training_data=None"),
        ({"every": 0}, "every=0"),
        ({"every": 1.5}, "every=1.5"),
        ({"x": {**HELD, "modality_mask": np.ones((30, 2))}}, "complete"),
    ],
)
def test_bad_arguments_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        ModalityMonitor(**{"x": HELD, "y": HELD_Y, **kwargs})


def test_a_plot_before_any_epoch_is_refused():
    with pytest.raises(ValueError, match="must come after `fit`"):
        ModalityMonitor(HELD, HELD_Y).plot()


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"x": HELD["a"]}, "`x` must be a non-empty dict.*a ndarray"),
        ({"x": None}, "`x` must be a non-empty dict.*a NoneType"),
        ({"x": {}}, "`x` must be a non-empty dict"),
        ({"y": None}, "0 labels"),
        ({"y": HELD_Y[:5]}, "5 labels"),
        ({"training_data": (X,)}, r"must be a tuple \(x, y\).*a tuple of 1"),
        ({"training_data": X}, r"must be a tuple \(x, y\).*a dict"),
        ({"training_data": (X["a"], Y)}, "`training_data` must be a non-empty"),
        ({"training_data": (X, Y[:3])}, "`training_data`.*3 labels"),
    ],
)
def test_data_that_do_not_fit_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text) as error:
        ModalityMonitor(**{"x": HELD, "y": HELD_Y, **kwargs})
    assert "Received: " in str(error.value)


@pytest.mark.one_backend
def test_it_needs_a_model_of_its_modalities():
    inputs = {k: keras.Input(v, name=k) for k, v in SHAPES.items()}
    both = keras.layers.Concatenate()(list(inputs.values()))
    plain = keras.Model(inputs, keras.layers.Dense(3)(both))
    plain.compile("sgd", "mse")
    monitor = ModalityMonitor(HELD, HELD_Y)
    with pytest.raises(ValueError, match="a model of keras_mmrel. Received"):
        plain.fit(X, np.eye(3)[Y], verbose=0, callbacks=[monitor])
    data = ({"a": X["a"]}, Y)
    for other, text in (
        (ModalityMonitor(*data), "`x` must hold the modalities"),
        (
            ModalityMonitor(HELD, HELD_Y, "probe", training_data=data),
            "`training_data` must hold the modalities",
        ),
        (ModalityMonitor(HELD, HELD_Y + 1), r"class numbers in \[0, 3\)"),
        (ModalityMonitor(HELD, np.eye(4)[HELD_Y]), "must have 3 columns"),
    ):
        with pytest.raises(ValueError, match=text):
            fit(other, epochs=1)
