import keras
import numpy as np
import pytest

import keras_mmrel
from tests.helpers import EAGER
from tests.helpers import run_model_checks
from tests.helpers import to_numpy
from tests.helpers import vectors

SHAPES = {"a": (6,), "b": (4,)}
X, Y = vectors(samples=24, shapes=SHAPES)
X["a"][::4] *= -1  # Some samples are harder.
IDS = np.random.default_rng(3).permutation(24)
MASK = np.ones((24, 2), "float32")
MASK[[1, 4, 5], 0] = 0
MASK[[6, 22], 1] = 0
FULL = {**X, "modality_mask": MASK, "sample_id": IDS}
WEIGHT = np.linspace(0.5, 1.5, 24) * (np.arange(24) % 5 > 0)


@keras.saving.register_keras_serializable(package="tests")
class NumberedQMF(keras_mmrel.QMF):
    """Number the lone batches of the standard checks too."""

    def train_on_batch(self, x, y=None, **kwargs):
        x = {**x, "sample_id": np.arange(len(y))}
        return super().train_on_batch(x, y, **kwargs)


def compiled(rate=0.0, eager=EAGER, **kwargs):
    """Without learning by default, so that losses stay what they are."""
    keras.utils.set_random_seed(0)
    encoders = {
        name: keras.Sequential(
            [keras.Input(shape), keras.layers.Dense(8, "relu")]
        )
        for name, shape in SHAPES.items()
    }
    model = keras_mmrel.QMF(encoders, 3, **{"history_size": 24, **kwargs})
    model.compile(keras.optimizers.SGD(rate), run_eagerly=eager)
    return model


def softmax(logits):
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def crossentropies(model, x=X):
    """Of every sample and modality."""
    p = softmax(model.predict(x, verbose=0)["modality_logits"])
    return -np.log(np.take_along_axis(p, Y[:, None, None], 2)[:, :, 0])


def sums(model):
    return to_numpy(model.sample_history.sums)


def test_standard_checks(tmp_path):
    model = run_model_checks(NumberedQMF, tmp_path)
    assert set(model.auxiliary_trackers) == {"modality_loss", "rank_loss"}


# -- Forward ------------------------------------------------------------------


def test_logits_are_weighted_by_energy_over_present_modalities():
    shapes = {"a": (6,), "b": (4,), "c": (5,)}
    x, _ = vectors(shapes=shapes)
    mask = np.ones((48, 3))
    mask[::3, 1] = 0
    out = keras_mmrel.QMF(shapes, 3).predict(
        {**x, "modality_mask": mask}, verbose=0
    )
    logits = out["modality_logits"]
    energy = np.log(np.exp(logits).sum(axis=-1)) / 10 * mask
    np.testing.assert_allclose(out["energy_confidence"], energy, atol=1e-6)
    np.testing.assert_allclose(
        out["logits"], (energy[:, :, None] * logits).sum(axis=1), atol=1e-5
    )
    confidence = mask / (1 + np.exp(-energy))
    np.testing.assert_allclose(out["confidence"], confidence, atol=1e-6)


@pytest.mark.parametrize("detach", [False, True])
def test_heads_learn_through_the_confidence_unless_it_is_detached(detach):
    model = compiled(
        1.0, detach_confidence=detach, rank_weight=0, modality_loss_weight=0
    )
    out = model.predict(X, verbose=0)
    model.train_on_batch(X, Y)
    error = out["probabilities"] - np.eye(3)[Y]
    for index, head in enumerate(model.heads):
        logits = out["modality_logits"][:, index]
        gradient = out["energy_confidence"][:, index, None] * error
        if not detach:
            through = (error * logits).sum(axis=1, keepdims=True)
            gradient = gradient + softmax(logits) / 10 * through
        np.testing.assert_allclose(
            to_numpy(head.bias), -gradient.mean(axis=0), atol=1e-6
        )


# -- History and ranks --------------------------------------------------------


@pytest.mark.parametrize("batch_size", [7, 24])
def test_history_sums_the_losses_of_each_sample_in_any_order(batch_size):
    model = compiled(eager=False)
    model.fit(X, Y, batch_size=batch_size, epochs=2, verbose=0)
    np.testing.assert_allclose(sums(model), 2 * crossentropies(model), 1e-5)
    assert (to_numpy(model.sample_history.counts) == 2).all()


def test_history_knows_samples_by_their_ids_and_skips_what_does_not_exist():
    model = compiled(eager=False)
    model.fit(FULL, Y, batch_size=6, sample_weight=WEIGHT, verbose=0)
    exists = MASK * (WEIGHT > 0)[:, None]
    expected = np.zeros((24, 2))
    expected[IDS] = crossentropies(model) * exists
    np.testing.assert_allclose(sums(model), expected, rtol=1e-5)


def test_rank_loss_is_that_of_the_pairs_that_exist():
    model = compiled(rank_weight=0.5)
    logs = model.fit(
        FULL, Y, batch_size=24, shuffle=False, sample_weight=WEIGHT, verbose=0
    ).history
    energy = model.predict(X, verbose=0)["energy_confidence"]
    expected = 0.0
    for column, loss in enumerate(crossentropies(model).T):
        exists = MASK[:, column] * WEIGHT
        seen = loss[exists > 0]
        history = (loss - seen.min()) / (seen.max() - seen.min())
        for i in range(24):
            j = (i + 1) % 24
            gap = history[i] - history[j]
            order = np.sign(gap) * (energy[i, column] - energy[j, column])
            pair = max(order + abs(gap), 0) * np.sqrt(exists[i] * exists[j])
            expected += 0.5 * pair / 24
    assert expected > 0.05
    np.testing.assert_allclose(logs["rank_loss"], expected, rtol=1e-4)


@pytest.mark.slow_on("jax", "tensorflow")
def test_rank_loss_spreads_confidence_against_history():
    def slope(rank_weight):
        """Of the confidence over the history, -1 where margins are kept."""
        model = compiled(0.05, eager=False, rank_weight=rank_weight)
        rng = np.random.default_rng(0)
        for weight in model.trainable_weights:
            weight.assign(0.5 * rng.normal(size=weight.shape))
        model.fit(X, Y, batch_size=24, epochs=100, shuffle=False, verbose=0)
        history = to_numpy(model.sample_history(np.arange(24)))
        energy = model.predict(X, verbose=0)["energy_confidence"]
        return [np.polyfit(history[:, i], energy[:, i], 1)[0] for i in (0, 1)]

    for ranked, plain in zip(slope(10.0), slope(1e-12), strict=True):
        assert ranked < 2 * plain < 0


def test_nothing_is_remembered_outside_training():
    model = compiled()
    before = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert before["rank_loss"] == 0
    logs = model.fit(X, Y, validation_split=0.25, verbose=0).history
    assert logs["rank_loss"][0] > 0 == logs["val_rank_loss"][0]
    # The last quarter of the data was held out.
    counts = to_numpy(model.sample_history.counts)[:, 0]
    np.testing.assert_array_equal(counts, np.arange(24) < 18)
    with_ids = {**X, "sample_id": np.arange(24)}
    assert model.evaluate(with_ids, Y, verbose=0, return_dict=True) == before
    model.predict(with_ids, verbose=0)
    np.testing.assert_array_equal(
        to_numpy(model.sample_history.counts)[:, 0], counts
    )


@pytest.mark.slow_on("tensorflow")
@pytest.mark.parametrize("kind", ["model", "weights"])
def test_a_saved_training_goes_on_as_if_nothing_had_happened(kind, tmp_path):
    settings = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model = compiled(0.1, rank_weight=1.0)
    model.fit(X, Y, epochs=2, **settings)
    if kind == "model":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    else:
        model.save_weights(tmp_path / "model.weights.h5")
        loaded = compiled(0.1, rank_weight=1.0)
        loaded.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(sums(loaded), sums(model))
    logs = [m.fit(X, Y, **settings).history for m in (model, loaded)]
    np.testing.assert_allclose(
        logs[0]["rank_loss"], logs[1]["rank_loss"], rtol=1e-5
    )
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(to_numpy(one), to_numpy(other), atol=1e-6)


# -- Sample ids ---------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(8 * index, 8 * index + 8)
        return {k: v[rows] for k, v in self.x.items()}, Y[rows]


def test_a_tensorflow_pipeline_carries_ids():
    tf = pytest.importorskip("tensorflow")
    model = compiled()
    source = tf.data.Dataset.from_tensor_slices((FULL, Y)).shuffle(24).batch(8)
    model.fit(source, verbose=0)
    expected = np.zeros((24, 2))
    expected[IDS] = crossentropies(model) * MASK
    np.testing.assert_allclose(sums(model), expected, rtol=1e-5)


def test_a_pydataset_carries_ids():
    direct, model = compiled(), compiled()
    direct.fit(FULL, Y, batch_size=8, verbose=0)
    model.fit(Batches(FULL), verbose=0)
    np.testing.assert_allclose(sums(model), sums(direct), rtol=1e-5)


@pytest.mark.parametrize("make", [Batches, lambda x: iter_batches(x)])
def test_a_pipeline_without_ids_is_refused_and_the_model_stays(make):
    model = compiled(eager=False)
    with pytest.raises(ValueError, match="must have the input 'sample_id'"):
        model.fit(make(X), verbose=0)
    assert np.isfinite(model.predict(X, verbose=0)["logits"]).all()


def iter_batches(x):
    yield from (Batches(x)[i] for i in range(3))


def test_late_ids_out_of_range_end_training_after_the_epoch():
    model = compiled(eager=False)
    late = {**X, "sample_id": np.arange(24) + (np.arange(24) > 20)}
    with pytest.raises(ValueError, match="Received: 1 others in this epoch"):
        model.fit(Batches(late), verbose=0)
    assert (to_numpy(model.sample_history.counts).sum(axis=0) == 23).all()
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (np.arange(24) + 1, "`history_size`.* which is 24.* from 1 to 24"),
        (np.arange(24) - 1, "values from -1 to 22"),
        (np.arange(24.0), "one integer a sample.*dtype=float64"),
        (np.zeros((24, 2), int), r"one value a sample.*shape=\(24, 2\)"),
    ],
)
def test_bad_ids_are_refused(ids, text):
    model = compiled()
    with pytest.raises(ValueError, match=text):
        model.fit({**X, "sample_id": ids}, Y, verbose=0)
    model.fit(X, Y, verbose=0)


def test_bad_ids_of_a_pipeline_are_refused_before_the_first_step():
    model = compiled()
    with pytest.raises(ValueError, match="values from -3 to 4"):
        model.fit(Batches({**X, "sample_id": np.arange(24) - 3}), verbose=0)
    assert (sums(model) == 0).all()


def test_more_samples_than_there_is_room_for_are_refused():
    model = compiled(history_size=23)
    with pytest.raises(ValueError, match="samples, 24.*history_size=23"):
        model.fit(X, Y, verbose=0)
    x = {k: v[:23] for k, v in X.items()}
    model.fit(x, Y[:23], verbose=0)


def test_a_lone_batch_needs_ids():
    model = compiled()
    with pytest.raises(ValueError, match="must have the input 'sample_id'"):
        model.train_on_batch(X, Y)
    model.train_on_batch({**X, "sample_id": IDS}, Y)
    assert (to_numpy(model.sample_history.counts) == 1).all()


def test_without_ranks_there_is_neither_history_nor_id():
    model = compiled(rank_weight=0, history_size=1)
    assert model.sample_history is None
    logs = model.fit(Batches(X), verbose=0).history
    assert "rank_loss" not in logs
    # Ids that a pipeline has anyway do no harm.
    again = compiled(rank_weight=0).fit(Batches(FULL), verbose=0).history
    plain = {k: v for k, v in FULL.items() if k != "sample_id"}
    other = compiled(rank_weight=0).fit(Batches(plain), verbose=0).history
    assert again == other


@pytest.mark.parametrize(
    "bad",
    [
        {"rank_weight": -1},
        {"rank_weight": float("nan")},
        {"modality_loss_weight": -0.5},
        {"detach_confidence": 1},
        {"history_size": 0},
        {"history_size": 10.0},
    ],
)
def test_bad_arguments_are_refused(bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=f"Received: {name}={value}"):
        keras_mmrel.QMF(SHAPES, 3, **bad)


def test_a_modality_cannot_be_named_like_the_ids():
    with pytest.raises(ValueError, match="must not be named 'sample_id'"):
        keras_mmrel.QMF({"a": (6,), "sample_id": (1,)}, 3)
