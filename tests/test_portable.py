import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel import portable
from keras_mmrel.layers._first_largest import first_largest
from keras_mmrel.layers.running_standardization import RunningStandardization
from keras_mmrel.portable import inverse
from keras_mmrel.portable import nothing_is
from keras_mmrel.portable import on_host
from keras_mmrel.portable import portable_operations
from keras_mmrel.portable import solve
from tests.helpers import SHAPES
from tests.helpers import vectors


def test_the_first_of_the_largest_is_marked():
    values = np.array(
        [[1.0, 3.0, 3.0, 2.0], [-5.0, -5.0, -7.0, -5.0], [0.0, -0.0, 1.0, 1.0]],
        "float32",
    )
    found = ops.convert_to_numpy(first_largest(ops.convert_to_tensor(values)))
    np.testing.assert_array_equal(found, np.eye(4)[values.argmax(axis=1)])


def test_sums_and_products_invert_as_lapack_does():
    rng = np.random.default_rng(0)
    factors = 10.0 * rng.normal(size=(5, 3, 16, 40))
    a = factors @ np.swapaxes(factors, 2, 3) + np.eye(16)
    b = rng.normal(size=(5, 3, 16))
    expected = np.linalg.inv(a)
    a, b = (ops.convert_to_tensor(v.astype("float32")) for v in (a, b))
    with portable_operations():
        swept, solved = inverse(a), solve(a, b)
    for found in (swept, inverse(a)):
        error = np.abs(ops.convert_to_numpy(found) - expected).max()
        assert error < 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(
        ops.convert_to_numpy(solved),
        ops.convert_to_numpy(solve(a, b)),
        atol=1e-6,
    )
    assert not np.array_equal(ops.convert_to_numpy(inverse(a)), swept)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["QADMNet", "MICINet"])
def test_a_few_samples_are_judged_as_many(name):
    x, y = vectors(60)
    model = getattr(keras_mmrel, name)(SHAPES, 3, seed=0)
    model.compile()
    model.fit(x, y, batch_size=30, verbose=0)
    # Usual ones, ones with a feature out of range, and far ones.
    new = {key: value[:24].copy() for key, value in x.items()}
    new["a"][8:16, 0] += 1.0
    new["b"][16:] *= 100.0
    many = model.predict(new, verbose=0)
    assert many["modality_quality"].min() < 0.5
    for row in range(24):
        one = {key: value[row : row + 1] for key, value in new.items()}
        found = model.predict_on_batch(one)
        for key, value in many.items():
            np.testing.assert_allclose(
                found[key][0], value[row], atol=1e-4, rtol=1e-4, err_msg=key
            )


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["QADMNet", "MICINet"])
def test_steps_of_a_few_samples_learn_what_others_do(name, monkeypatch):
    x, y = vectors(32)

    def trained():
        keras.utils.set_random_seed(0)
        model = getattr(keras_mmrel, name)(SHAPES, 3, seed=0)
        model.compile("sgd")
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        return model

    on_the_host = trained()
    monkeypatch.setattr(portable, "FEW", 0)
    pairs = zip(on_the_host.variables, trained().variables, strict=True)
    for variable, other in pairs:
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable),
            ops.convert_to_numpy(other),
            rtol=1e-4,
            atol=1e-5,
            err_msg=variable.path,
        )


@pytest.mark.one_backend
def test_what_a_gradient_flows_through_stays_a_tensor():
    if keras.config.backend() != "torch":
        pytest.skip("only PyTorch runs a step as it is read")
    layer = RunningStandardization()
    x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(4, 2, 3)))
    layer(x, training=True)
    x.requires_grad_()
    assert not on_host(x) and on_host(x.detach())
    ops.sum(ops.square(layer(x))).backward()
    assert float(abs(x.grad).min()) > 0


@pytest.mark.one_backend
def test_what_nothing_asks_for_may_be_left_out():
    none, some = ops.zeros((3,), "bool"), ops.ones((3,), "bool")
    assert nothing_is([none, none])
    assert not nothing_is([none, some])
    assert not nothing_is([keras.KerasTensor((3,), "bool")])
    with portable_operations():
        assert not nothing_is([none])
    assert on_host(ops.ones((8, 2)))
    assert not on_host(ops.ones((9, 2)))
    with portable_operations():
        assert not on_host(ops.ones((8, 2)))
