import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.layers import CorruptionAugmentation
from keras_mmrel.layers import InputQuality
from tests.helpers import SHAPES
from tests.helpers import run_model_checks
from tests.helpers import to_numpy
from tests.helpers import vectors


def small_net(modalities, num_classes, **kwargs):
    kwargs = {"hidden_dim": 16, "embedding_dim": 8, **kwargs}
    return keras_mmrel.QADMNet(modalities, num_classes, **kwargs)


def fitted(epochs=10, **kwargs):
    x, y = vectors()
    model = small_net(SHAPES, 3, **kwargs)
    model.compile(keras.optimizers.AdamW(1e-2))
    model.fit(x, y, batch_size=16, epochs=epochs, verbose=0)
    return model, x, y


@pytest.fixture(scope="module")
def trained():
    """Of the default options, for tests that leave it as it is."""
    keras.utils.set_random_seed(0)
    return fitted()


def gate_of(model, x):
    clean = model.prepare_inputs(x)
    return model._gate(model.encode(clean), clean["modality_mask"])


def test_standard_checks(tmp_path):
    model = run_model_checks(small_net, tmp_path)
    x, _ = vectors()
    out = model.predict(x, batch_size=48, verbose=0)
    assert out["depth"].shape == (48, 3)
    assert out["exit_logits"].shape == (48, 3, model.max_depth, 3)
    assert "training_record" not in out


# On TensorFlow the layer's own test does.
@pytest.mark.slow_on("tensorflow")
def test_skipping_predicts_the_same_and_is_saved(tmp_path):
    model, x, _ = fitted()
    noisy = {**x, "a": x["a"] + 5.0}
    expected = model.predict(noisy, batch_size=48, verbose=0)
    assert np.unique(expected["depth"]).size > 1
    skipping = small_net(SHAPES, 3, inference="skip")
    skipping.set_weights(model.get_weights())
    path = str(tmp_path / "model.keras")
    skipping.save(path)
    loaded = keras.saving.load_model(path)
    assert loaded.inference == loaded.fusion.inference == "skip"
    for key, value in loaded.predict(noisy, batch_size=48, verbose=0).items():
        np.testing.assert_allclose(value, expected[key], atol=1e-5)


@pytest.mark.slow_on("tensorflow")
def test_fit_gathers_exact_class_statistics_from_streamed_batches(trained):
    model, x, y = trained
    means = ops.convert_to_numpy(model.gate.means)
    counts = ops.convert_to_numpy(model.gate.counts)
    for m, name in enumerate(SHAPES):
        size = SHAPES[name][0]
        for k in range(3):
            np.testing.assert_allclose(
                means[m, k, :size], x[name][y == k].mean(axis=0), atol=1e-5
            )
            assert counts[m, k, 0] == (y == k).sum()
    assert float(model.gate.ready) == 1


@pytest.mark.slow_on("jax", "tensorflow")
def test_statistics_are_frozen_after_the_warm_up():
    model, x, y = fitted()
    before = [to_numpy(w) for w in model.gate.weights]
    model.fit(
        {k: v + 1 for k, v in x.items()}, y, batch_size=16, epochs=2, verbose=0
    )
    for weight, old in zip(model.gate.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), old)


@pytest.mark.slow_on("jax", "tensorflow")
def test_augmentation_never_enters_a_statistic():
    model, x, y = fitted(
        augmentation=CorruptionAugmentation(
            noise_probability=1.0, drop_probability=0.3, seed=0
        )
    )
    means = ops.convert_to_numpy(model.gate.means)
    for k in range(3):
        np.testing.assert_allclose(
            means[0, k, :6], x["a"][y == k].mean(axis=0), atol=1e-5
        )


@pytest.mark.slow_on("tensorflow")
def test_warm_up_lasts_its_fraction_and_at_least_two_epochs():
    for epochs, expected in ((4, 6), (100, 30), (2, 3), (1, 1)):
        model = small_net(SHAPES, 3, warmup=0.1)
        model.clock.plan(steps_per_epoch=3, epochs=epochs)
        assert float(model.clock.warmup_steps(model.warmup)) == expected


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_pipeline_of_unknown_length_warms_up_too():
    tf = pytest.importorskip("tensorflow")
    x, y = vectors()
    model = small_net(SHAPES, 3)
    model.compile()
    source = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    source = source.filter(lambda x, y: tf.size(y) > 0)
    model.fit(source, epochs=6, verbose=0)
    # Keras on TensorFlow ends such an epoch with a step of no samples.
    steps = int(model.optimizer.iterations) // 6
    assert steps in (3, 4)
    assert float(model.clock.warmup_steps(model.warmup)) == 2 * steps
    assert float(model.clock.progress) == 1
    assert float(model.gate.ready) == 1


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("epochs", [(1, 1, 1), (2, 2), (3,), ("stop", 3)])
def test_however_short_or_broken_the_fits_the_warm_up_ends(epochs):
    tf = pytest.importorskip("tensorflow")

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    x, y = vectors()
    model = small_net(SHAPES, 3)
    model.compile()
    source = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    source = source.filter(lambda x, y: tf.size(y) > 0)
    for number in epochs:
        if number == "stop":
            with pytest.raises(KeyboardInterrupt):
                model.fit(source, epochs=9, verbose=0, callbacks=Stop())
            assert float(model.gate.ready) == 0
        else:
            model.fit(source, epochs=number, verbose=0)
    assert float(model.gate.ready) == 1
    assert to_numpy(model.gate.counts).sum(axis=1).min() >= 1
    assert to_numpy(model.gate.distance_counts).min() >= 1


def test_adapt_builds_an_encoder_of_unknown_shape():
    x, y = vectors()
    model = small_net({**SHAPES, "a": keras.layers.Dense(5)}, 3)
    assert not model.built
    model.adapt(x, y)
    assert float(model.gate.ready) == 1


@pytest.mark.slow_on("jax", "tensorflow")
def test_adapt_fits_what_the_warm_up_would_and_keeps_it(trained):
    streamed, x, y = trained
    model = small_net(SHAPES, 3)
    model.adapt(x, y, batch_size=20)
    for name in ("counts", "means", "squares"):
        np.testing.assert_allclose(
            to_numpy(getattr(model.gate, name)),
            to_numpy(getattr(streamed.gate, name)),
            atol=1e-4,
        )
    before = [to_numpy(w) for w in model.gate.weights]
    model.compile()
    model.fit(x, y, batch_size=16, epochs=4, verbose=0)
    for weight, old in zip(model.gate.weights, before, strict=True):
        np.testing.assert_allclose(to_numpy(weight), old)


@pytest.mark.slow_on("jax", "tensorflow")
def test_statistics_follow_an_encoder_that_learns():
    x, y = vectors()
    encoder = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])
    model = small_net({"a": encoder, "b": (4,), "c": (5,)}, 3)
    start = to_numpy(encoder(x["a"]))
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(x, y, batch_size=48, epochs=150, verbose=0)
    end = to_numpy(encoder(x["a"]))
    means = to_numpy(model.gate.means)[0, :, :5]
    for k in range(3):
        first, last = start[y == k].mean(axis=0), end[y == k].mean(axis=0)
        lag = np.linalg.norm(means[k] - last) / np.linalg.norm(first - last)
        assert lag < 0.6
    # A fixed vector's statistics are those of the data.
    np.testing.assert_allclose(
        to_numpy(model.gate.means)[1, 0, :4],
        x["b"][y == 0].mean(axis=0),
        atol=1e-5,
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_images_train_with_the_default_encoder():
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    x = {
        "image": rng.normal(size=(24, 8, 8, 1)) + y[:, None, None, None],
        "a": rng.uniform(size=(24, 6)),
    }
    model = small_net({"image": (8, 8, 1), "a": (6,)}, 2)
    model.compile()
    history = model.fit(x, y, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert model.predict(x, batch_size=48, verbose=0)["depth"].shape == (24, 2)


@pytest.mark.slow_on("tensorflow")
def test_gradients_reach_every_trained_weight_and_no_statistic():
    model, x, y = fitted()
    before = [to_numpy(v) for v in model.trainable_variables]
    model.compile(keras.optimizers.SGD(1.0))
    model.fit(x, y, batch_size=48, epochs=1, verbose=0)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        new = to_numpy(variable)
        assert np.isfinite(new).all()
        assert np.abs(new - old).max() > 0, variable.path
    trained = {v.path for v in model.trainable_variables}
    assert not any("gate" in path for path in trained)


@pytest.mark.slow_on("jax", "tensorflow")
def test_options_switch_their_mechanism_off():
    model, x, _ = fitted(dynamic_depth=False)
    noisy = {**x, "a": x["a"] + 50.0}
    out = model.predict(noisy, batch_size=48, verbose=0)
    np.testing.assert_array_equal(out["depth"], model.max_depth)
    assert (out["fusion_weights"][:, 0] < 0.1).all()
    model, x, _ = fitted(dynamic_parameters=False)
    features = model.encode(model.prepare_inputs(noisy))
    cleaned = to_numpy(gate_of(model, noisy)["cleaned"])
    for index, feature in enumerate(map(to_numpy, features)):
        np.testing.assert_array_equal(
            cleaned[:, index, : feature.shape[1]], feature
        )


def shuffled(x, names):
    """Kept marginals: no feature leaves its range."""
    rng = np.random.default_rng(0)
    return {
        name: np.stack([rng.permutation(c) for c in v.T], axis=1)
        if name in names
        else v
        for name, v in x.items()
    }


def correlated(samples=300):
    """Features of a modality share what is random in them."""
    rng = np.random.default_rng(0)
    y = np.arange(samples) % 3
    x = {}
    for name, (size,) in SHAPES.items():
        mixing = rng.normal(size=(3, size))
        hidden = np.eye(3)[y] + 0.3 * rng.normal(size=(samples, 3))
        x[name] = (0.2 * hidden @ mixing).astype("float32")
    return x, y


@pytest.mark.slow_on("jax", "tensorflow")
def test_depth_and_weight_fall_with_quality_relative_to_the_best():
    x, y = correlated()
    model = small_net(SHAPES, 3)
    model.compile(keras.optimizers.AdamW(1e-2))
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    clean = model.predict(x, batch_size=300, verbose=0)
    assert clean["depth"].mean() > 0.9 * model.max_depth
    out = model.predict(shuffled(x, "a"), batch_size=300, verbose=0)
    others = clean["depth"][:, 1:]
    assert out["depth"][:, 0].mean() < 0.75 * others.mean()
    assert (out["depth"][:, 1:] >= others).mean() > 0.95
    weight = out["fusion_weights"].mean(axis=0)
    assert weight[0] < 0.7 * weight[1:].min()
    # Where all suffer alike nobody is dropped.
    out = model.predict(shuffled(x, "abc"), batch_size=300, verbose=0)
    quality = out["modality_quality"]
    alike = quality.min(axis=1) > 0.9 * quality.max(axis=1)
    assert alike.sum() > 5 and (quality[alike] < 0.9).any()
    assert out["depth"][alike].mean() > 0.9 * model.max_depth


def test_parameters_of_a_sample_follow_the_quality_of_its_features(trained):
    model, x, _ = trained
    noisy = {**x, "a": x["a"].copy()}
    noisy["a"][:, 0] = 40.0
    gate = gate_of(model, noisy)
    quality = to_numpy(gate["quality"])[:, 0]
    assert quality[:, 0].max() < 1e-3 and quality[:, 1:6].mean() > 0.9
    fusion = model.fusion
    out = fusion(gate["cleaned"], np.ones((48, 3), "float32"))
    kernel, bias = to_numpy(fusion.kernel)[0], to_numpy(fusion.bias)[0]
    centre = to_numpy(model.gate._standardisation()[0])[0]
    # What the mean of the other features gives moves to the bias.
    for row in (0, 7):
        own = quality[row][:, None] * kernel
        first = (
            noisy["a"][row] @ own[:6] + ((1 - quality[row]) * centre) @ kernel
        )
        hidden = np.maximum(first + bias, 0)
        logits = (
            hidden @ to_numpy(fusion.head)[0] + to_numpy(fusion.head_bias)[0]
        )
        np.testing.assert_allclose(
            to_numpy(out["exit_logits"])[row, 0, 0], logits, atol=1e-4
        )
    # Its class information is lost to the modality's quality.
    information = to_numpy(model.gate.class_information())[0]
    np.testing.assert_allclose(
        to_numpy(gate["retained"])[:, 0], quality @ information, atol=1e-4
    )


@pytest.mark.parametrize(
    ("spec", "cleaning"),
    [
        ((6,), False),
        (lambda: keras.layers.Identity(), False),
        ((5, 5, 1), "repair"),
        (lambda: keras_mmrel.encoders.MLPEncoder((4,)), "repair"),
        (lambda: [keras.layers.Dense(4)], "repair"),
    ],
)
def test_inputs_are_repaired_where_the_gate_does_not_see_them(spec, cleaning):
    spec = spec() if callable(spec) else spec
    model = small_net({"a": spec, "b": (4,)}, 3)
    assert model.quality.cleaning == cleaning
    again = keras_mmrel.QADMNet.from_config(model.get_config())
    assert again.quality.cleaning == cleaning


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_wild_feature_is_repaired_before_the_encoder():
    rng = np.random.default_rng(0)
    x = {
        name: (
            rng.normal(size=(200, 3)) @ rng.normal(size=(3, 8))
            + 0.1 * rng.normal(size=(200, 8))
        ).astype("float32")
        for name in "ab"
    }
    wild = {**x, "a": x["a"].copy()}
    wild["a"][:, 2] += 30.0
    model = small_net({n: keras_mmrel.encoders.MLPEncoder((4,)) for n in x}, 3)
    model.quality.adapt(x, (x["a"][:, 0] + x["b"][:, 0] > 0).astype("int32"))
    used = to_numpy(model.augment(model.prepare_inputs(wild))["a"])
    wrong = np.abs(used - x["a"])
    assert wrong[:, 2].mean() < 0.05 * 30.0
    assert np.delete(wrong, 2, axis=1).mean() < 0.2


@pytest.mark.slow_on("jax", "tensorflow")
def test_data_that_are_read_once_are_judged_by_the_gate():
    x, y = vectors()
    model = small_net(SHAPES, 3)
    model.compile()
    batches = ((x, y) for _ in range(12))
    model.fit(batches, steps_per_epoch=4, epochs=3, verbose=0)
    assert not model.quality.adapted
    assert float(model.gate.ready) == 1
    noisy = {**x, "a": x["a"] + 50.0}
    out = model.predict(noisy, batch_size=48, verbose=0)
    np.testing.assert_array_equal(out["depth"][:, 0], 0)
    with pytest.raises(ValueError, match="`quality` must be adapted before"):
        asked = small_net(SHAPES, 3, quality=InputQuality())
        asked.compile()
        asked.fit(((x, y) for _ in range(2)), steps_per_epoch=1, verbose=0)


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_saved_warm_up_goes_on_where_it_stopped(tmp_path):
    x, y = vectors()
    model = small_net(SHAPES, 3)
    model.compile()
    model.fit(x, y, batch_size=16, epochs=20, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.clock.step) == 60
    loaded.fit(x, y, batch_size=16, epochs=50, verbose=0)
    steps = [m.clock.warmup_steps(0.1) for m in (model, loaded)]
    assert float(steps[0]) == float(steps[1]) == 6


@pytest.mark.parametrize("warmup", [0, 1, -0.5, None, "0.1"])
def test_bad_warmup_is_named(warmup):
    with pytest.raises(ValueError, match=f"warmup={warmup!r}"):
        small_net(SHAPES, 3, warmup=warmup)


@pytest.mark.parametrize("size", [0, -1, 2.5, "all", None])
def test_adapt_refuses_a_batch_size_that_is_none(size):
    x, y = vectors()
    model = keras_mmrel.QADMNet(SHAPES, 3)
    with pytest.raises(ValueError, match="`batch_size` must be a positive"):
        model.adapt(x, y, batch_size=size)


def test_adapt_takes_arrays_only():
    x, y = vectors()
    model = keras_mmrel.QADMNet(SHAPES, 3)
    for data in ((batch for batch in [(x, y)]), x["a"], None):
        with pytest.raises(ValueError, match="`x` must be a dict .* Received"):
            model.adapt(data, y)
