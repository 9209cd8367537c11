"""Names of classes: in the model's file, and those of its data."""

import keras
import numpy as np
import pytest

import keras_mmrel
from tests.helpers import SHAPES
from tests.helpers import vectors

NAMES = ["cat", "dog", "owl"]


class Named(keras.utils.PyDataset):
    """Three batches, drawn by threads, whose classes have names."""

    def __init__(self, class_names, **options):
        super().__init__(**options)
        self.x, self.y = vectors(24)
        self.class_names = class_names

    def __len__(self):
        return 6

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return {n: v[rows] for n, v in self.x.items()}, self.y[rows]


def compiled(**options):
    model = keras_mmrel.ConcatFusion(SHAPES, 3, **options)
    model.compile("sgd", run_eagerly=keras.config.backend() != "jax")
    return model


@pytest.mark.one_backend
def test_names_are_in_the_file_and_may_be_taken_from_data(tmp_path):
    model = compiled()
    assert model.class_names is None
    model.fit(Named(NAMES), verbose=0)
    assert model.class_names == NAMES
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.class_names == NAMES
    assert compiled(class_names=tuple(NAMES)).class_names == NAMES
    nameless = type(model).from_config(compiled().get_config())
    assert nameless.class_names is None


@pytest.mark.one_backend
def test_data_of_other_classes_are_refused():
    model = compiled(class_names=NAMES)
    other = Named(NAMES[::-1])
    for run in (model.fit, model.evaluate, model.predict):
        with pytest.raises(
            ValueError, match="must have the classes of the mod"
        ):
            run(other, verbose=0)
    with pytest.raises(ValueError, match="classes of the training data"):
        model.fit(Named(NAMES), validation_data=other, verbose=0)
    with pytest.raises(ValueError, match="at most 3 classes"):
        compiled().fit(Named([*NAMES, "yak"]), verbose=0)
    with pytest.raises(ValueError, match="3 names, one a class. Received: 2"):
        compiled(class_names=NAMES[:2])
    # Before the model knows any, those of the training data count.
    with pytest.raises(ValueError, match="classes of the training data"):
        compiled().fit(Named(NAMES), validation_data=other, verbose=0)
    with pytest.warns(UserWarning, match="3 classes and the data name 2"):
        few = compiled()
        few.fit(Named(NAMES[:2]), verbose=0)
    assert few.class_names is None
    # A failed `fit` has taught no names.
    fresh = compiled()
    wrong = Named(NAMES)
    wrong.y = wrong.y * 0 - 1
    with pytest.raises(ValueError):
        fresh.fit(wrong, verbose=0)
    assert fresh.class_names is None


class Seen(keras.callbacks.Callback):
    """How many samples of each class the epochs have counted."""

    def __init__(self):
        super().__init__()
        self.counts = []

    def on_epoch_end(self, epoch, logs=None):
        counts = keras.ops.convert_to_numpy(self.model.class_counts)
        self.counts.append(counts.tolist())


@pytest.mark.slow_on("tensorflow")
def test_workers_give_every_sample_once_an_epoch():
    data = Named(NAMES, workers=2, max_queue_size=3)
    # The first and the last batch are of one class each.
    data.y = np.repeat(np.arange(3, dtype="int32"), 8)
    seen = Seen()
    model = compiled()
    model.fit(data, epochs=2, shuffle=False, callbacks=[seen], verbose=0)
    assert seen.counts == [[8, 8, 8], [16, 16, 16]]
    # The same in an evaluation that is a model's first run.
    fresh = compiled()
    fresh.set_weights(model.get_weights())
    parts = [data[i] for i in range(len(data))]
    x = {n: np.concatenate([p[0][n] for p in parts]) for n in data.x}
    expected = fresh.evaluate(x, data.y, batch_size=4, verbose=0)
    fresh = compiled()
    fresh.set_weights(model.get_weights())
    np.testing.assert_allclose(fresh.evaluate(data, verbose=0), expected, 1e-5)
