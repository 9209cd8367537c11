import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import FeatureGate
from tests.helpers import assert_close
from tests.helpers import assert_same_state
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy


def clean_data(samples=200, modalities=2, features=6, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=samples)
    centres = rng.uniform(0.3, 0.7, size=(classes, modalities, features))
    x = centres[y] + 0.05 * rng.normal(size=(samples, modalities, features))
    return x.astype("float32"), y.astype("int32")


def adapted_gate(**kwargs):
    x, y = clean_data()
    gate = FeatureGate(num_classes=2, **kwargs)
    gate.adapt(x, y)
    return gate, x, y


def test_standard_checks():
    x, _ = clean_data(10)
    run_layer_checks(
        FeatureGate(2, feature_sizes=(6, 4), forgetting=(1.0, 0.9)),
        x,
        output_shapes={
            "quality": (10, 2, 6),
            "typicality": (10, 2),
            "standardised": (10, 2, 6),
            "gated": (10, 2, 6),
            "cleaned": (10, 2, 6),
            "retained": (10, 2),
        },
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_what_is_retained_is_class_information():
    rng = np.random.default_rng(0)
    y = np.arange(3000) % 2
    x = rng.normal(size=(3000, 1, 3)).astype("float32")
    # The first tells the class, the second a little, the third nothing.
    x[:, 0, 0] += 4.0 * y
    x[:, 0, 1] += 1.0 * y
    gate = FeatureGate(2)
    gate.adapt(x, y)
    information = to_numpy(gate.class_information())[0]
    np.testing.assert_allclose(information, [0.8, 0.2, 0.0], atol=0.03)
    spoiled = np.zeros((4, 1, 3), "float32")
    spoiled[np.arange(3), 0, np.arange(3)] = -50.0
    retained = to_numpy(gate(spoiled))["retained"][:, 0]
    np.testing.assert_allclose(retained, [*(1.0 - information), 1.0], atol=1e-3)


@pytest.mark.slow_on("jax", "tensorflow")
def test_statistics_equal_numpy_however_the_data_are_batched():
    x, y = clean_data()
    x = x + 1000.0  # where a sum of squares would lose all precision
    mask = np.ones((200, 2), "float32")
    mask[::3, 1] = 0
    labels = np.eye(2, dtype="float32")[y]
    gate = FeatureGate(num_classes=2)
    gate.build(x.shape)
    for start in range(0, 200, 37):
        part = slice(start, start + 37)
        gate.update_statistics(x[part], labels[part], mask[part])
    for m in range(2):
        present = mask[:, m] > 0
        for k in range(2):
            rows = x[present & (y == k), m].astype("float64")
            np.testing.assert_allclose(
                ops.convert_to_numpy(gate.counts)[m, k, 0], len(rows)
            )
            np.testing.assert_allclose(
                ops.convert_to_numpy(gate.means)[m, k],
                rows.mean(axis=0),
                rtol=1e-6,
            )
            np.testing.assert_allclose(
                ops.convert_to_numpy(gate.squares)[m, k],
                ((rows - rows.mean(axis=0)) ** 2).sum(axis=0),
                rtol=1e-2,
            )


@pytest.mark.slow_on("jax", "tensorflow")
def test_before_statistics_the_gate_is_open():
    gate = FeatureGate(num_classes=2)
    x, _ = clean_data(5)
    out = to_numpy(gate(x))
    np.testing.assert_allclose(out["quality"], 1)
    np.testing.assert_allclose(out["typicality"], 1)
    np.testing.assert_allclose(out["cleaned"], x)


@pytest.mark.slow_on("jax", "tensorflow")
def test_clean_features_pass_and_an_outlier_is_pulled_to_the_mean():
    gate, x, _ = adapted_gate()
    assert (to_numpy(gate(x))["quality"] > 0.95).mean() >= 0.98
    shifted = x.copy()
    shifted[:, 0, 2] += 20 * 0.05
    out = to_numpy(gate(shifted))
    assert out["quality"][:, 0, 2].max() < 1e-5
    centre = ops.convert_to_numpy(gate.means)[0, :, 2].mean()
    np.testing.assert_allclose(out["cleaned"][:, 0, 2], centre, atol=1e-4)
    # A shift by 20 deviations changes the gated input less than one by 2.
    slight = x.copy()
    slight[:, 0, 2] += 2 * 0.05
    base = to_numpy(gate(x))["gated"][:, 0, 2]
    by_20 = np.abs(out["gated"][:, 0, 2] - base).mean()
    by_2 = np.abs(to_numpy(gate(slight))["gated"][:, 0, 2] - base).mean()
    assert by_20 < by_2


def test_typicality_falls_with_noise_and_only_where_the_noise_is():
    gate, x, _ = adapted_gate()
    noise = np.random.default_rng(1).normal(size=x[:, 0].shape)
    previous = 1.1
    for sigma in (0.0, 0.1, 0.3, 1.0):
        noisy = x.copy()
        noisy[:, 0] += (sigma * noise).astype("float32")
        out = to_numpy(gate(noisy))["typicality"]
        assert out[:, 0].mean() < previous
        previous = out[:, 0].mean()
        np.testing.assert_allclose(
            out[:, 1], to_numpy(gate(x))["typicality"][:, 1], atol=1e-6
        )
    assert previous < 0.15


@pytest.mark.slow_on("jax", "tensorflow")
def test_padding_changes_nothing():
    x, y = clean_data()
    padded = np.concatenate([x, np.zeros_like(x[:, :, :3])], axis=2)
    plain = FeatureGate(2)
    plain.adapt(x, y)
    wide = FeatureGate(2, feature_sizes=(6, 6))
    wide.adapt(padded, y)
    a, b = to_numpy(plain(x)), to_numpy(wide(padded))
    np.testing.assert_allclose(a["typicality"], b["typicality"], atol=1e-6)
    np.testing.assert_allclose(a["gated"], b["gated"][:, :, :6], atol=1e-5)
    assert (b["gated"][:, :, 6:] == 0).all()


def test_missing_modalities_do_not_enter_the_statistics():
    x, y = clean_data()
    mask = np.ones((200, 2), "float32")
    mask[:50, 0] = 0
    spoiled = x.copy()
    spoiled[:50, 0] = np.nan
    a, b = FeatureGate(2), FeatureGate(2)
    a.adapt(x, y, mask)
    b.adapt(spoiled, y, mask)
    for u, v in zip(a.weights, b.weights, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(u), ops.convert_to_numpy(v), rtol=1e-5
        )
    assert (to_numpy(a(x, modality_mask=mask))["typicality"][:50, 0] == 0).all()


@pytest.mark.parametrize("shift", [-1, 1])
def test_labels_of_no_class_are_refused(shift):
    x, y = clean_data()
    with pytest.raises(ValueError, match=r"class numbers in \[0, 2\)"):
        FeatureGate(num_classes=2).adapt(x, y + shift)


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_class_without_samples_is_no_prototype():
    x, y = clean_data()
    gate = FeatureGate(num_classes=3)
    gate.adapt(x, y)
    reference, _, _ = adapted_gate()
    np.testing.assert_allclose(
        to_numpy(gate(x))["quality"],
        to_numpy(reference(x))["quality"],
        atol=1e-5,
    )


def test_forgetting_follows_a_feature_that_moves():
    x, y = clean_data()
    labels = np.eye(2, dtype="float32")[y]
    gate = FeatureGate(2, forgetting=(1.0, 0.5))
    gate.build(x.shape)
    for shift in (0.0, *[5.0] * 12):
        gate.update_statistics(x + shift, labels)
    means = ops.convert_to_numpy(gate.means)
    target = np.stack([(x[y == k] + 5.0).mean(axis=0) for k in range(2)], 1)
    np.testing.assert_allclose(means[1], target[1], atol=2e-2)
    assert np.abs(means[0] - target[0]).min() > 0.3


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="batch, modalities, features"):
        FeatureGate(2)(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="`feature_sizes`"):
        FeatureGate(2, feature_sizes=(9, 9))(np.zeros((3, 2, 4)))


def test_a_saved_gate_judges_as_before(tmp_path):
    gate, x, _ = adapted_gate()
    inputs = keras.Input((2, 6))
    model = keras.Model(inputs, gate(inputs))
    model.save(tmp_path / "gate.keras")
    loaded = keras.saving.load_model(tmp_path / "gate.keras")
    np.testing.assert_allclose(
        to_numpy(loaded(x))["typicality"],
        to_numpy(gate(x))["typicality"],
        atol=1e-6,
    )


def batches_of(kind, x, y, mask, size=64):
    """A data set of `(inputs, y, modality_mask)`, or a list of batches."""
    if kind == "tf.data":
        tf = pytest.importorskip("tensorflow")
        return tf.data.Dataset.from_tensor_slices((x, y, mask)).batch(size)
    if kind == "torch":
        torch = pytest.importorskip("torch")
        tensors = [torch.from_numpy(v) for v in (x, y, mask)]
        data = torch.utils.data.TensorDataset(*tensors)
        return torch.utils.data.DataLoader(data, batch_size=size)
    parts = [slice(i, i + size) for i in range(0, len(x), size)]
    batches = [(x[p], y[p], mask[p]) for p in parts]
    if kind == "list":
        return batches

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, index):
            # It has no end of its own.
            return batches[index % len(batches)]

    return Batches()


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("kind", ["tf.data", "torch", "list", "PyDataset"])
@pytest.mark.parametrize("built", [False, True])
def test_adapt_takes_data_sets_with_masks_before_and_after_build(kind, built):
    x, y = clean_data()
    mask = np.ones((200, 2), "float32")
    mask[::3, 1] = 0
    x[::3, 1] = np.nan
    whole, gate = FeatureGate(2), FeatureGate(2)
    whole.adapt(x, y, mask)
    if built:
        # What was known before is forgotten.
        gate.adapt(*clean_data(seed=1))
    gate.adapt(batches_of(kind, x, y, mask))
    assert float(gate.ready) == 1
    for one, other in zip(whole.weights, gate.weights, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(one),
            ops.convert_to_numpy(other),
            rtol=1e-4,
            atol=1e-5,
        )


def test_adapt_takes_one_hot_labels():
    gate, x, y = adapted_gate()
    other = FeatureGate(2)
    other.adapt(x, np.eye(2, dtype="float32")[y])
    assert_same_state(gate, other)


def test_adapt_refuses_what_it_cannot_read_twice_or_at_all():
    x, y = clean_data()
    with pytest.raises(ValueError, match="read twice. Received: generator"):
        FeatureGate(2).adapt((x, y) for _ in range(2))
    with pytest.raises(ValueError, match="`data` must hold samples"):
        FeatureGate(2).adapt([])


def test_a_list_of_features_is_padded():
    x, y = clean_data()
    narrow = [x[:, 0], x[:, 1, :4]]
    padded = x.copy()
    padded[:, 1, 4:] = 0
    gate, other = FeatureGate(2), FeatureGate(2, feature_sizes=(6, 4))
    gate.adapt(narrow, y)
    other.adapt(padded, y)
    assert_same_state(gate, other)
    assert_close(gate(narrow), to_numpy(other(padded)))
    tensors = [keras.Input((6,)), keras.Input((4,))]
    model = keras.Model(tensors, gate(tensors)["cleaned"])
    np.testing.assert_allclose(
        model.predict(narrow, verbose=0),
        to_numpy(gate(narrow)["cleaned"]),
        atol=1e-5,
    )


def test_training_does_not_move_the_statistics():
    gate, x, _ = adapted_gate()
    before = [ops.convert_to_numpy(w) for w in gate.weights]
    gate(x + 1.0, training=True)
    for weight, old in zip(gate.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), old)


def test_values_of_a_missing_modality_are_never_read():
    gate, x, _ = adapted_gate()
    mask = np.ones((200, 2), "float32")
    mask[::3, 1] = 0
    spoiled = x.copy()
    spoiled[::3, 1] = np.nan
    assert_close(gate(spoiled, mask), to_numpy(gate(x, mask)), atol=0)


def test_statistics_build_the_layer():
    layer = FeatureGate(2)
    layer.update_statistics(np.ones((4, 2, 3)), np.array([0, 1, 0, 1]))
    assert layer.built and layer.non_trainable_weights


@pytest.mark.one_backend
def test_adapt_does_not_join_tables_of_other_rows():
    pd = pytest.importorskip("pandas")
    x, y = clean_data()
    frame = pd.DataFrame(x[:, 0], index=[f"p{i}" for i in range(len(x))])
    labels = pd.Series(y, index=frame.index)
    gate, expected = FeatureGate(2), FeatureGate(2)
    gate.adapt([frame, frame.copy()], labels)
    expected.adapt([x[:, 0], x[:, 0]], y)
    assert_same_state(gate, expected)
    with pytest.raises(ValueError, match="`data` and `y` must have the same"):
        gate.adapt([frame, frame.copy()], labels[::-1])
