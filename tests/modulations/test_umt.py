"""Encoders that learn what their teachers know, and what is refused."""

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.modulations import UMT
from tests.helpers import to_numpy
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import assert_equal_weights
from tests.modulations.helpers import make_model
from tests.modulations.helpers import make_teacher
from tests.modulations.helpers import train
from tests.modulations.helpers import weights

SGD = keras.optimizers.SGD


def apart(model, alone, name="a"):
    """Mean square of what a feature differs from its teacher's by."""
    index = model.modality_names.index(name)
    features = [m(X[name]) for m in (model.encoders[index], alone.encoders[0])]
    return float(np.mean(np.square(to_numpy(features[0] - features[1]))))


def golden_train():
    """Three epochs of it, the same on every backend."""
    umt = UMT({"a": make_teacher()}, scale=2.0)
    return train(umt, SGD(0.05), epochs=3, compiled=True)


@pytest.mark.parametrize("compiled", [False, True])
def test_one_step_adds_the_gradient_of_the_distance(compiled):
    """Against a step by hand: joint, plus that of the mean square alone."""
    alone = make_teacher()
    joint, reference = make_model(), make_model()
    train(None, SGD(1.0), joint, batch_size=24)
    goal = to_numpy(alone.encoders[0](X["a"]))
    encoder = reference.encoders[0]
    encoder.compile(SGD(1.0), loss="mse")
    encoder.fit(X["a"], goal, batch_size=24, epochs=1, verbose=0)
    model, history = train(
        UMT({"a": alone}, scale=3.0),
        SGD(1.0),
        make_model(),
        batch_size=24,
        compiled=compiled,
    )
    before = weights(make_model())
    for start, a, b, c in zip(
        before, weights(joint), weights(reference), weights(model), strict=True
    ):
        np.testing.assert_allclose(c, a + 3.0 * (b - start), atol=5e-6)
    start = make_model()
    expected = 3.0 * apart(start, alone)
    _, plain = train(None, SGD(1.0), start, batch_size=24)
    np.testing.assert_allclose(
        history["loss"][0], plain["loss"][0] + expected, rtol=1e-5
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_features_come_near_and_the_teacher_stays():
    alone = make_teacher()
    known = [to_numpy(w) for w in alone.encoders[0].weights]
    model = make_model()
    far = apart(model, alone)
    train(UMT({"a": alone}), keras.optimizers.Adam(0.02), model, epochs=60)
    plain, _ = train(None, keras.optimizers.Adam(0.02), epochs=60)
    assert apart(model, alone) < 0.4 * min(far, apart(plain, alone))
    after = [to_numpy(w) for w in alone.encoders[0].weights]
    assert_equal_weights(after, known, atol=0)
    teachers = model.modulation.teachers[0].weights
    own = {id(v) for v in model.trainable_variables}
    assert not own & {id(v) for v in teachers}


@pytest.mark.slow_on("jax", "tensorflow")
def test_what_is_missing_weighs_nothing_or_is_not_there():
    mask = np.ones((24, 2), "float32")
    mask[::2, 0] = 0
    x = {**X, "modality_mask": mask}
    rows = np.where(mask[:, 0] > 0)[0]
    found = []
    for fill in (0.0, 7.0):
        values = np.where(mask[:, :1] > 0, X["a"], fill).astype("float32")
        umt = UMT({"a": make_teacher()})
        _, history = train(
            umt, SGD(1e-6), x={**x, "a": values}, y=Y, batch_size=24
        )
        found.append(history["loss"][0])
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    # Weight 0 instead: of those that count, all have it.
    weight = np.zeros(24, "float32")
    weight[rows] = 1.0
    totals = []
    for modulation in (UMT({"a": make_teacher()}), None):
        _, history = train(
            modulation, SGD(1e-6), x=X, y=Y, sample_weight=weight, batch_size=24
        )
        totals.append(history["loss"][0])
    model, alone = make_model(), make_teacher()
    features = [
        to_numpy(m(X["a"][rows]))
        for m in (model.encoders[0], alone.encoders[0])
    ]
    expected = 10.0 * np.mean(np.square(features[0] - features[1]))
    # Keras' mean of a loss is over all rows of the batch.
    expected *= len(rows) / 24
    assert totals[0] - totals[1] == pytest.approx(expected, rel=1e-4)


def test_outside_its_window_it_is_a_plain_training():
    late = UMT({"a": make_teacher()}, warmup=1.0 - 1e-6, until=1.0)
    model, _ = train(late, SGD(0.1))
    plain, _ = train(None, SGD(0.1))
    assert_equal_weights(weights(model), weights(plain), atol=0)


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_saved_training_goes_on_as_if_nothing_had_happened(tmp_path):
    model, _ = train(UMT({"a": make_teacher()}, 2.0), SGD(0.05))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.modulation.scale == 2.0 and loaded.modulation.taught == ["a"]
    np.testing.assert_array_equal(
        to_numpy(loaded.modulation.teachers[0](X["a"])),
        to_numpy(model.modulation.teachers[0](X["a"])),
    )
    for m in (model, loaded):
        m.fit(X, Y, batch_size=12, epochs=2, verbose=0, shuffle=False)
    assert_equal_weights(weights(loaded), weights(model), atol=1e-6)


@pytest.mark.slow_on("jax", "tensorflow")
def test_mixed_precision():
    model = make_model(dtype="mixed_float16")
    _, history = train(
        UMT({"a": make_teacher(sign=1.0)}), SGD(0.05), model, epochs=2
    )
    _, full = train(UMT({"a": make_teacher(sign=1.0)}), SGD(0.05), epochs=2)
    np.testing.assert_allclose(history["loss"], full["loss"], rtol=2e-2)


def test_every_backend_trains_the_same_weights():
    model, history = golden_train()
    # Sums of absolute weights, and the losses, of every backend.
    total = sum(float(np.abs(w).sum()) for w in weights(model))
    np.testing.assert_allclose(total, GOLDEN["weights"], rtol=1e-5)
    np.testing.assert_allclose(history["loss"], GOLDEN["loss"], rtol=1e-5)


GOLDEN = {
    "weights": 57.656403571367264,
    "loss": [2.2818219661712646, 1.9815177917480469, 1.793534278869629],
}


# -- What is refused ----------------------------------------------------------


@pytest.mark.parametrize(
    "teachers", [None, {}, [1], {"a": 3}, {1: keras.layers.Dense(2)}]
)
def test_teachers_are_layers_by_name(teachers):
    with pytest.raises(ValueError, match="`teachers` must be a dict"):
        UMT(teachers)


def test_a_teacher_must_fit():
    with pytest.raises(ValueError, match="'a' must be trained with that"):
        UMT({"a": make_model()})
    with pytest.raises(ValueError, match=r"modalities \['a', 'b'\].*\['c'\]"):
        make_model().compile(modulation=UMT({"c": keras.layers.Dense(8)}))
    with pytest.raises(ValueError, match=r"encoder, \(8,\). Received: \(5,\)"):
        make_model().compile(modulation=UMT({"a": keras.layers.Dense(5)}))
    late = keras_mmrel.LateFusion({"a": (6,), "b": (4,)}, 3)
    with pytest.raises(ValueError, match="UMT needs one with a head on all"):
        late.compile(modulation=UMT({"a": keras.layers.Dense(8)}))


if __name__ == "__main__":
    model, history = golden_train()
    total = sum(float(np.abs(w).sum()) for w in weights(model))
    print({"weights": total, "loss": history["loss"]})
