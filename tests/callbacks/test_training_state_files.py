"""Which files a training goes on from, and which it refuses."""

import json
import os
import sys
import warnings

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.callbacks import TrainingState
from keras_mmrel.callbacks import _state_file
from tests.callbacks.resumed_models import Stop
from tests.helpers import SHAPES
from tests.helpers import vectors

MAGIC = _state_file.MAGIC


def compiled(cls=keras_mmrel.ConcatFusion, classes=3, rate=1e-3, **kwargs):
    model = cls(SHAPES, classes, **kwargs)
    model.compile(keras.optimizers.Adam(rate), run_eagerly=True)
    return model


def fit(model, folder, epochs=2, callbacks=(), batch_size=24, **kwargs):
    x, y = vectors()
    return model.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=[TrainingState(folder), *callbacks],
        **kwargs,
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def written(tmp_path):
    """A folder with the states after epochs 1 and 2."""
    fit(compiled(seed=1), tmp_path / "state")
    return tmp_path / "state"


def test_a_folder_has_the_newest_state_and_the_one_before(written):
    assert set(contents(written)) == {"newest.state", "previous.state"}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"cls": keras_mmrel.LateFusion}, "class='ConcatFusion'"),
        ({"classes": 4}, "model.num_classes=3 there and 4 here"),
        ({"rate": 1e-2}, "learning_rate"),
        ({"seed": 2}, "seed=1 there and 2 here"),
        ({"augmentation": keras_mmrel.layers.CorruptionAugmentation()},
         "augmentation"),
    ],
)  # fmt: skip
def test_the_state_of_another_training_is_refused_and_stays(
    written, change, words
):
    before = contents(written)
    with pytest.raises(ValueError, match="state of this training") as error:
        fit(compiled(**{"seed": 1, **change}), written, epochs=3)
    assert words in str(error.value)
    assert str(written) in str(error.value)
    assert contents(written) == before


def test_other_steps_an_epoch_are_another_training(written):
    before = contents(written)
    with pytest.raises(ValueError, match="2 steps an epoch there and 3 here"):
        fit(compiled(seed=1), written, epochs=3, batch_size=16)
    assert contents(written) == before


def rewrite(path, change):
    """Write a state anew, whole, with something changed."""
    state = _state_file.read(path)
    change(state)
    _state_file.write(path, state)


def test_another_version_is_refused(written):
    newest = written / "newest.state"
    rewrite(newest, lambda s: s["identity"].update(keras="3.0.0"))
    before = contents(written)
    with pytest.raises(ValueError, match="keras='3.0.0' there"):
        fit(compiled(seed=1), written, epochs=3)
    assert contents(written) == before


def test_weights_of_another_shape_are_refused(written):
    newest = written / "newest.state"
    rewrite(newest, lambda s: s["variables"].pop())
    model = compiled(seed=1)
    weights = model.get_weights()
    with pytest.raises(ValueError, match="other variables"):
        fit(model, written, epochs=3)
    for weight, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, before)


def made_up(header, tail=b""):
    """A file with a right digest and a header of somebody's own."""
    import hashlib

    header = (
        header if isinstance(header, bytes) else json.dumps(header).encode()
    )
    body = MAGIC + len(header).to_bytes(8, "little") + header + tail
    return body + hashlib.sha256(body).digest()


HOSTILE = {
    "empty": b"",
    "garbage": b"0123456789" * 100,
    "pickle": b"\x80\x04\x95\x19\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix",
    "not whole": MAGIC + b"1234",
    "no header": made_up(b""),
    "a header without end": MAGIC + b"\xff" * 8 + b"{}" + b"0" * 32,
    "a header like a tower": made_up(b"[" * 100_000 + b"]" * 100_000),
    "no parts": made_up({"value": {"dict": {}}, "arrays": []}),
    "an array larger than the file": made_up(
        {"value": {"array": 0}, "arrays": [["float64", [10**15]]]}
    ),
    "an array of a negative size": made_up(
        {"value": {"array": 0}, "arrays": [["float64", [-1, -1]]]}
    ),
    "an array of objects": made_up(
        {"value": {"array": 0}, "arrays": [["object", [1]]]}, b"12345678"
    ),
    "an unknown kind": made_up({"value": {"eval": "1"}, "arrays": []}),
    "bytes left over": made_up({"value": 1, "arrays": []}, b"1"),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_or_hostile_file_is_one_sentence(tmp_path, name):
    (tmp_path / "newest.state").write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match="undamaged training state") as error:
        fit(compiled(), tmp_path)
    assert len(str(error.value)) < 400
    assert contents(tmp_path) == {"newest.state": HOSTILE[name]}


def test_a_damaged_newest_state_falls_back_on_the_one_before(written):
    newest = written / "newest.state"
    whole = newest.read_bytes()
    before = (written / "previous.state").read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])

    with (
        pytest.warns(UserWarning, match="the one before is used"),
        pytest.raises(KeyboardInterrupt),
    ):
        fit(compiled(seed=1), written, callbacks=[Stop(0)])
    with pytest.warns(UserWarning, match="the one before is used"):
        history = fit(compiled(seed=1), written)
    assert history.epoch == [0, 1]
    # The damaged one has gone, the whole one before has not.
    assert (written / "previous.state").read_bytes() == before
    assert _state_file.read(newest)["epochs"] == 2


def test_a_kill_between_two_names_leaves_the_state_before(written):
    (written / "newest.state").unlink()
    (written / "unfinished").write_bytes(b"half")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = fit(compiled(seed=1), written)
    assert history.epoch == [0, 1]


def test_a_complete_training_is_restored_and_not_trained_again(written):
    x, y = vectors()
    first = compiled(seed=1)
    with pytest.warns(UserWarning, match="complete training of 2 epochs"):
        history = fit(first, written)
    assert history.epoch == [0, 1]
    step = float(keras.ops.convert_to_numpy(first.clock.step))
    assert step == 4
    # It may be made longer.
    assert fit(compiled(seed=1), written, epochs=3).epoch == [0, 1, 2]


def test_a_training_that_was_stopped_stays_stopped(tmp_path):
    x, y = vectors()

    def stopped():
        # No loss rises by so much.
        stop = keras.callbacks.EarlyStopping(
            "loss", 9.0, mode="max", patience=1, restore_best_weights=True
        )
        model = compiled(seed=1)
        return model, fit(model, tmp_path, epochs=9, callbacks=[stop]), stop

    model, history, stop = stopped()
    assert history.epoch == [0, 1]
    with pytest.warns(UserWarning, match="complete training of 2 epochs"):
        again, history, other = stopped()
    assert history.epoch == [0, 1]
    assert other.stopped_epoch == stop.stopped_epoch == 1
    assert other.best == stop.best
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_second_fit_of_one_model_is_a_resumed_one(tmp_path):
    """In a notebook the model is still there, with what it has come to."""
    reduce = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(
            model.optimizer, "learning_rate", 1e-3 / (epoch + 2)
        )
    )
    model = compiled()
    fit(model, tmp_path, callbacks=[reduce])
    history = fit(model, tmp_path, epochs=3, callbacks=[reduce])
    assert history.epoch == [0, 1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.one_backend
def test_a_full_disk_is_a_warning_and_the_state_before_stays(
    written, monkeypatch
):
    before = contents(written)
    real = _state_file.write

    def full(path, value):
        path.unlink(missing_ok=True)
        os.symlink("/dev/full", path)
        real(path, value)

    monkeypatch.setattr(_state_file, "write", full)
    with pytest.warns(UserWarning, match="after epoch 3 could not be written"):
        history = fit(compiled(seed=1), written, epochs=3)
    assert history.epoch == [0, 1, 2]
    assert contents(written) == before


@pytest.mark.one_backend
def test_a_folder_that_is_none_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="can be written to") as error:
        fit(compiled(), tmp_path / "file")
    assert "Received: folder=" in str(error.value)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.one_backend
def test_it_is_for_models_of_the_library_and_once_a_fit(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="of a model of keras_mmrel"):
        model.fit(
            np.ones((4, 2)),
            np.ones(4),
            verbose=0,
            callbacks=[TrainingState(tmp_path)],
        )
    with pytest.raises(ValueError, match="one `TrainingState` at most"):
        fit(compiled(), tmp_path, callbacks=[TrainingState(tmp_path)])


# -- What else is restored ---------------------------------------------------


class Remember(keras.callbacks.Callback):
    """A callback whose state is no plain attribute."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.rng = np.random.default_rng(0)
        self.drawn = []

    def on_epoch_end(self, epoch, logs=None):
        self.drawn.append(float(self.rng.random()))

    def get_state(self):
        return {"rng": self.rng.bit_generator.state, "drawn": self.drawn}

    def set_state(self, state):
        self.rng.bit_generator.state = state["rng"]
        self.drawn = state["drawn"]


@pytest.mark.slow_on("tensorflow")
def test_callbacks_say_what_their_state_is_or_it_is_what_changed(tmp_path):
    x, y = vectors()

    def callbacks(path, patience):
        return [
            Remember(path),
            keras_mmrel.callbacks.ModalityMonitor(x, y, contributions=False),
            keras.callbacks.ReduceLROnPlateau("loss", patience=patience),
        ]

    whole = callbacks("a", 5)
    fit(compiled(seed=1), tmp_path / "whole", epochs=3, callbacks=whole)
    keras.utils.set_random_seed(0)
    fit(compiled(seed=1), tmp_path / "a", 1, callbacks("a", 5))
    resumed = callbacks("b", 7)
    fit(compiled(seed=1), tmp_path / "a", 3, resumed)
    assert resumed[0].drawn == np.random.default_rng(0).random(3).tolist()
    assert resumed[1].epochs == [0, 1, 2]
    assert len(resumed[1].history["val_a_accuracy"]) == 3
    # An argument is the script's.
    assert resumed[0].path == "b"
    assert resumed[2].patience == 7
    assert resumed[2].min_delta == whole[2].min_delta
    assert "val_a_accuracy" in resumed[2].model.history.history


class Batches(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        self.x, self.y = vectors()

    def __len__(self):
        return 6

    def __getitem__(self, index):
        rows = slice(8 * index, 8 * index + 8)
        return {k: v[rows] for k, v in self.x.items()}, self.y[rows]


def loader():
    torch = pytest.importorskip("torch")
    x, y = vectors()
    rows = [({k: v[i] for k, v in x.items()}, y[i]) for i in range(len(y))]
    return torch.utils.data.DataLoader(rows, batch_size=8, shuffle=True)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("source", [Batches, loader])
def test_pipelines_that_global_generators_shuffle_go_on(tmp_path, source):
    def train(folder, *callbacks):
        model = compiled(seed=1)
        callbacks = [TrainingState(tmp_path / folder), *callbacks]
        model.fit(source(), epochs=4, verbose=0, callbacks=callbacks)
        return model.get_weights()

    def set_seeds(seed):
        keras.utils.set_random_seed(seed)
        if source is loader:
            # Keras does so with its PyTorch backend only.
            pytest.importorskip("torch").manual_seed(seed)

    set_seeds(3)
    whole = train("whole")
    set_seeds(3)
    with pytest.raises(KeyboardInterrupt):
        train("a", Stop(15))
    set_seeds(4)
    for a, b in zip(train("a"), whole, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.one_backend
@pytest.mark.parametrize("folder", [None, 5, "", ["a"]])
def test_a_folder_is_a_path(folder):
    with pytest.raises(ValueError, match="`folder` must be a path. Received"):
        TrainingState(folder)
