"""One clock: what a warm-up, an annealing and a window are measured by."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.models import Clock
from tests.helpers import EAGER
from tests.helpers import SHAPES
from tests.helpers import vectors


def number(x):
    return float(ops.convert_to_numpy(x))


def compiled(cls=keras_mmrel.ConcatFusion, **kwargs):
    model = cls(SHAPES, 3, **kwargs)
    model.compile("sgd", run_eagerly=EAGER)
    return model


class Record(keras.callbacks.Callback):
    """The clock at the beginning of every epoch and after every step."""

    def __init__(self):
        super().__init__()
        self.epochs, self.progress = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(number(self.model.clock.epoch))

    def on_train_batch_end(self, batch, logs=None):
        self.progress.append(number(self.model.clock.progress))


def test_progress_is_the_fraction_of_the_planned_steps():
    x, y = vectors()
    model, record = compiled(), Record()
    model.fit(x, y, batch_size=24, epochs=3, verbose=0, callbacks=[record])
    np.testing.assert_allclose(record.progress, np.arange(1, 7) / 6, rtol=1e-6)
    assert record.epochs == [0, 1, 2]
    assert number(model.clock.step) == 6
    # What comes after the first training does not begin anew.
    model.fit(x, y, batch_size=24, verbose=0)
    assert number(model.clock.progress) == 1
    assert number(model.clock.step) == 8
    model.clock.reset()
    model.fit(x, y, batch_size=24, verbose=0)
    assert number(model.clock.step) == number(model.clock.planned_steps) == 2


def test_without_a_known_length_progress_begins_with_the_second_epoch():
    x, y = vectors()

    def batches():
        while True:
            yield x, y

    class Unknown(keras.utils.PyDataset):
        @property
        def num_batches(self):
            return None

        def __getitem__(self, index):
            if index > 1:
                raise IndexError
            return x, y

    model, record = compiled(), Record()
    model.fit(
        batches(), steps_per_epoch=2, epochs=2, verbose=0, callbacks=[record]
    )
    assert record.progress == [0.25, 0.5, 0.75, 1.0]
    tf = pytest.importorskip("tensorflow")
    source = tf.data.Dataset.from_tensor_slices((x, y)).batch(24)
    source = source.filter(lambda x, y: tf.size(y) > 0)
    model, record = compiled(), Record()
    model.fit(source, epochs=4, verbose=0, callbacks=[record])
    np.testing.assert_allclose(
        record.progress,
        [0, 0, 3 / 8, 0.5, 5 / 8, 0.75, 7 / 8, 1],
        atol=1e-6,
    )


def test_a_resumed_training_goes_on_with_its_plan(tmp_path):
    x, y = vectors()

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    model = compiled()
    model.fit(x, y, batch_size=24, epochs=4, verbose=0, callbacks=[Stop()])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert number(loaded.clock.progress) == 0.25
    record = Record()
    loaded.fit(
        x,
        y,
        batch_size=24,
        epochs=4,
        initial_epoch=1,
        verbose=0,
        callbacks=[record],
    )
    assert record.progress[0] == 0.375
    assert record.epochs == [1, 2, 3]


def test_train_on_batch_moves_the_clock_and_may_be_planned():
    x, y = vectors()
    model = compiled()
    model.train_on_batch(x, y)
    np.testing.assert_allclose(number(model.clock.progress), 1e-3)
    model.clock.reset()
    model.clock.plan(steps_per_epoch=2, epochs=2)
    model.train_on_batch(x, y)
    assert number(model.clock.progress) == 0.25


@pytest.mark.parametrize(
    "fraction, epochs, expected",
    [
        # At least two epochs of three steps, but not more than half.
        (0.1, 4, 6),
        (0.1, 2, 3),
        (0.1, 1, 1),
        (0.1, 100, 30),
        (0.75, 4, 9),
        (1.0, 4, 12),
        (0.0, 4, 0),
    ],
)
def test_a_warm_up_is_a_fraction_and_at_least_two_epochs(
    fraction, epochs, expected
):
    clock = Clock()
    clock.plan(steps_per_epoch=3, epochs=epochs)
    assert number(clock.warmup_steps(fraction)) == expected
    if expected:
        clock.step.assign(expected - 1.0)
        assert number(clock.warmed_up(fraction)) == 0
    clock.step.assign(float(expected))
    assert number(clock.warmed_up(fraction)) == 1


@pytest.mark.slow_on("tensorflow")
def test_the_same_warm_up_is_of_the_same_length_in_every_method():
    lengths = {
        cls.__name__: number(model.clock.warmup_steps(model.warmup))
        for cls in (
            keras_mmrel.QADMNet,
            keras_mmrel.MICINet,
            keras_mmrel.AIM,
            keras_mmrel.CAL,
        )
        if not (model := cls(SHAPES, 3, warmup=0.3)).clock.plan(4, 10)
    }
    modulation = keras_mmrel.modulations.OGM(warmup=0.3)
    clock = Clock()
    clock.plan(4, 10)
    lengths["OGM"] = number(clock.warmup_steps(modulation.warmup))
    assert set(lengths.values()) == {12.0}


def test_evaluation_and_prediction_leave_the_clock_alone():
    x, y = vectors()
    model = compiled()
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    model.test_on_batch(x, y)
    assert number(model.clock.step) == 0


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "3", None])
def test_a_bad_plan_is_named(bad):
    with pytest.raises(ValueError, match="`epochs` must be a positive"):
        Clock().plan(steps_per_epoch=3, epochs=bad)


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_training_that_was_interrupted_may_be_planned_anew():
    x, y = vectors()

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = compiled(keras_mmrel.QADMNet)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=24, epochs=1000, verbose=0, callbacks=Stop())
    assert number(model.clock.planned_steps) == 2000
    model.fit(x, y, batch_size=24, epochs=5, verbose=0)
    assert number(model.clock.progress) == 1
    assert number(model.clock.planned_steps) == 11
    assert number(model.gate.ready) == 1


def test_a_training_that_begins_later_is_as_long_as_what_is_left():
    x, y = vectors()
    model = compiled()
    model.fit(x, y, batch_size=24, epochs=5, initial_epoch=3, verbose=0)
    assert number(model.clock.planned_steps) == 4
    assert number(model.clock.progress) == 1
    assert number(model.clock.epoch) == 4


def test_a_callback_list_is_taken_and_left_as_it_is():
    x, y = vectors()
    model, record = compiled(), Record()
    model.compile(
        "sgd", modulation=keras_mmrel.modulations.OGM(), run_eagerly=EAGER
    )
    callbacks = keras.callbacks.CallbackList(
        [record], add_history=True, model=model
    )
    before = list(callbacks.callbacks)
    for _ in range(2):
        history = model.fit(
            x, y, batch_size=24, epochs=2, verbose=0, callbacks=callbacks
        )
        assert "a_coefficient" in history.history
        assert callbacks.callbacks == before
    assert record.progress[:4] == [0.25, 0.5, 0.75, 1.0]
    # The library's own come first: the epoch is known to the user's.
    assert record.epochs == [0, 1, 0, 1]


@pytest.mark.one_backend
def test_a_window_begins_where_a_device_rounds_down():
    """A GPU divides 3 by 10 to less than 0.3."""
    clock = Clock()
    clock.plan(steps_per_epoch=10, epochs=1)
    for progress, passed in (
        (np.nextafter(np.float32(0.3), np.float32(0)), 1.0),
        (0.3 - 1e-4, 0.0),
    ):
        clock.progress.assign(progress)
        assert float(ops.convert_to_numpy(clock.passed(0.3))) == passed


def test_a_ramp_rises_over_epochs():
    clock = Clock()
    clock.plan(steps_per_epoch=5, epochs=40)
    found = []
    for at in (0, 10, 20, 150):
        clock.step.assign(float(at))
        found.append(float(clock.ramp(4.0)))
    assert found == [0.0, 0.5, 1.0, 1.0]


def test_a_ramp_takes_a_tenth_of_the_steps_where_no_epoch_is_known():
    clock = Clock()
    clock.step.assign(50.0)
    assert float(clock.ramp(4.0)) == 0.5
    clock.expect_plan()
    assert float(clock.ramp(4.0)) < 1e-6
