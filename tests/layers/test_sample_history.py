import keras
import numpy as np

from keras_mmrel.layers import SampleHistory
from tests.helpers import json_round_trip
from tests.helpers import to_numpy


def filled():
    """Six samples, of which 0, 2 and 5 were seen, 2 of them twice."""
    history = SampleHistory(6, columns=2)
    values = np.array([[1.0, 8.0], [2.0, 4.0], [5.0, 4.0]])
    history.update_statistics(np.array([0, 2, 5]), values)
    history.update_statistics(np.array([[2]]), np.array([[1.0, 2.0]]))
    return history


def test_sums_are_kept_by_id():
    history = filled()
    expected = [[1, 8], [0, 0], [3, 6], [0, 0], [0, 0], [5, 4]]
    np.testing.assert_array_equal(to_numpy(history.sums), expected)
    counts = [1, 0, 2, 0, 0, 1]
    np.testing.assert_array_equal(to_numpy(history.counts)[:, 0], counts)


def test_history_is_read_on_a_scale_of_the_samples_seen():
    found = to_numpy(filled().read(np.array([5, 2, 0, 1])))
    expected = [[1, 0], [0.5, 0.5], [0, 1], [0, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-7)
    np.testing.assert_array_equal(to_numpy(filled()(np.array([[5]]))), [[1, 0]])


def test_equal_histories_and_an_empty_one_are_read_as_zero():
    history = SampleHistory(4)
    assert (to_numpy(history(np.arange(4))) == 0).all()
    history.update_statistics(np.array([1, 2]), np.full((2, 1), 3.0))
    assert (to_numpy(history(np.arange(4))) == 0).all()


def test_a_sample_twice_in_a_batch_counts_twice():
    history = SampleHistory(3)
    history.update_statistics(
        np.array([1, 1, 0]), np.array([[1.0], [2.0], [4.0]])
    )
    np.testing.assert_array_equal(to_numpy(history.sums)[:, 0], [4, 3, 0])


def test_values_that_do_not_exist_are_left_out():
    history = SampleHistory(3, columns=2)
    values = np.array([[1.0, np.nan], [np.inf, 2.0]])
    history.update_statistics(
        np.array([0, 1]), values, np.array([[1, 1], [1, 0]])
    )
    np.testing.assert_array_equal(
        to_numpy(history.sums), [[1, 0], [0, 0], [0, 0]]
    )
    np.testing.assert_array_equal(
        to_numpy(history.counts), [[1, 0], [0, 0], [0, 0]]
    )


def test_ids_outside_the_range_change_nothing_and_are_counted():
    history = filled()
    before = to_numpy(history.sums)
    history.update_statistics(np.array([6, -1, 1000]), np.full((3, 2), 7.0))
    np.testing.assert_array_equal(to_numpy(history.sums), before)
    assert to_numpy(history.outside) == 3
    assert (to_numpy(history.read(np.array([6, -1, 1000]))) == 0).all()


def test_ids_outside_the_range_are_harmless_in_a_compiled_program():
    ids = keras.Input((), dtype="int32")
    history = filled()
    model = keras.Model(ids, history(ids))
    found = model.predict(np.array([5, 6, -1, 2]), verbose=0)
    expected = [[1, 0], [0, 0], [0, 0], [0.5, 0.5]]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_reset_forgets_all():
    history = filled()
    history.update_statistics(np.array([9]), np.ones((1, 2)))
    history.reset()
    assert all((to_numpy(w) == 0).all() for w in history.weights)


def test_config_and_weights_survive_saving(tmp_path):
    history = filled()
    assert json_round_trip(history).get_config() == history.get_config()
    ids = keras.Input((), dtype="int32")
    keras.Model(ids, history(ids)).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    for weight, other in zip(history.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), to_numpy(other))
    assert all(weight.dtype == "float32" for weight in history.weights)
    assert history.trainable_weights == []
