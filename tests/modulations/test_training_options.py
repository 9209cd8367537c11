"""Modulations beside everything else that `compile` and `fit` offer.

`python -m tests.modulations.test_training_options` writes the golden weights
anew, after a change that is meant.
"""

import itertools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.modulations import AGM
from keras_mmrel.modulations import OGM
from tests.modulations.helpers import Constant
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import assert_equal_weights
from tests.modulations.helpers import distance
from tests.modulations.helpers import make_model
from tests.modulations.helpers import train
from tests.modulations.helpers import travel
from tests.modulations.helpers import weights

PATH = Path(__file__).parent / "golden.json"
# JAX compiles every branch of an eager step anew, a graph only once.
JAX = keras.config.backend() == "jax"
SGD = keras.optimizers.SGD
Adam = keras.optimizers.Adam

OPTIONS = {
    "compiled": {"compiled": True},
    "jit": {"compile_kwargs": {"run_eagerly": False, "jit_compile": True}},
    "sample_weight": {"sample_weight": np.linspace(0, 2, 24)},
    "class_weight": {"class_weight": {0: 1.0, 1: 0.2, 2: 3.0}},
    "accumulation": {
        "gradient_accumulation_steps": 2,
        "batch_size": 12,
        "compiled": JAX,
    },
    "mixed_float16": {"dtype": "mixed_float16", "compiled": JAX},
    "mixed_bfloat16": {"dtype": "mixed_bfloat16"},
}


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("name", OPTIONS)
def test_one_step_is_scaled_whatever_the_option(name):
    if name == "jit" and keras.config.backend() != "tensorflow":
        pytest.skip("JAX jits anyway; torch.compile takes minutes on a CPU")
    options = dict(OPTIONS[name])
    steps = options.pop("gradient_accumulation_steps", None)
    dtype = options.pop("dtype", None)

    def move(modulation):
        # Momentum keeps nothing in the first step.
        optimizer = SGD(0.1, gradient_accumulation_steps=steps)
        return travel(modulation, optimizer, make_model(dtype=dtype), **options)

    plain = move(None)
    assert min(np.abs(v).max() for v in plain.values()) > 1e-3
    eager = travel(None, SGD(0.1))
    if name in ("compiled", "jit", "accumulation"):
        np.testing.assert_allclose(plain["a"], eager["a"], atol=1e-6)
    else:
        assert np.abs(plain["a"] - eager["a"]).max() > 1e-6
    # XLA's compiler is slow, and one way uses what the other does.
    ways = ["updates"] if name == "jit" else ["gradients", "updates"]
    for apply_to in ways:
        moved = move(Constant((0.25, 2.0), apply_to=apply_to))
        for group, factor in [("a", 0.25), ("b", 2.0), ("fusion", 1.0)]:
            np.testing.assert_allclose(
                moved[group], factor * plain[group], rtol=1e-5, atol=5e-7
            )


@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm"])
def test_clipping_comes_after_gradients_and_before_updates(option):
    def steps(modulation, **kwargs):
        model = make_model()
        before = weights(model)
        owners = model.modulation_slot.owners(model.trainable_variables)
        train(modulation, SGD(1.0, **kwargs), model, batch_size=24)
        pairs = zip(before, weights(model), strict=True)
        return [old - new for old, new in pairs], owners

    def clip(gradients, limit):
        norms = [np.linalg.norm(g) for g in gradients]
        if option == "global_clipnorm":
            norms = [np.linalg.norm(norms)] * len(norms)
        return [
            g * limit / max(n, limit)
            for g, n in zip(gradients, norms, strict=True)
        ]

    gradients, owners = steps(None)
    limit = 0.5 * np.linalg.norm(gradients[0])
    factors = [1.0 if o is None else (0.25, 2.0)[o] for o in owners]

    def scale(values):
        return [f * v for f, v in zip(factors, values, strict=True)]

    expected = {
        "gradients": clip(scale(gradients), limit),
        "updates": scale(clip(gradients, limit)),
    }
    assert distance(expected["gradients"], expected["updates"]) > 1e-3
    for apply_to, values in expected.items():
        modulation = Constant((0.25, 2.0), apply_to=apply_to)
        actual, _ = steps(modulation, **{option: limit})
        assert_equal_weights(actual, values, rtol=1e-5, atol=1e-6)


class WeightRecord(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.epochs = [*getattr(self, "epochs", []), weights(self.model)]


@pytest.mark.parametrize("steps, dtype", [(None, "mixed_float16"), (2, None)])
def test_the_average_of_the_weights_follows_the_edited_weights(steps, dtype):
    optimizer = Adam(
        0.02,
        use_ema=True,
        ema_momentum=0.8,
        gradient_accumulation_steps=steps,
    )
    record, model = WeightRecord(), make_model(dtype=dtype)
    start = weights(model)
    train(
        Constant((0.1, 3.0)),
        optimizer,
        model,
        JAX,
        epochs=4,
        batch_size=24 // (steps or 1),
        callbacks=[record],
    )
    averages = None
    history = [start, *record.epochs]
    for before, after in itertools.pairwise(history):
        # Keras averages in every step, one that accumulates included, and
        # starts at the weights after the first update.
        for values in [before, after] if steps else [after]:
            if averages is None or values is record.epochs[0]:
                averages = values
            averages = [
                0.8 * average + 0.2 * value
                for average, value in zip(averages, values, strict=True)
            ]
    assert distance(averages, record.epochs[-1]) > 1e-3
    for average, expected in zip(
        optimizer._model_variables_moving_average, averages, strict=True
    ):
        actual = ops.convert_to_numpy(average)
        np.testing.assert_allclose(actual, expected, atol=2e-6)
    # `fit` ends with the averages as the model's weights.
    assert_equal_weights(weights(model), averages, atol=2e-6)


@pytest.mark.skipif(
    keras.config.backend() == "torch",
    reason="Keras supports one step per execution only with PyTorch",
)
def test_several_steps_per_execution_give_the_same_weights():
    results = []
    for steps in (1, 4):
        model, history = train(
            AGM(1.0),
            Adam(0.05),
            compiled=True,
            compile_kwargs={"steps_per_execution": steps},
            batch_size=3,
        )
        results.append((weights(model), history))
    (one, logs), (four, four_logs) = results
    assert_equal_weights(four, one, atol=1e-6)
    assert abs(logs["a_coefficient"][0] - 1) > 1e-3
    for name in ("a_coefficient", "b_coefficient", "loss"):
        np.testing.assert_allclose(four_logs[name], logs[name], rtol=1e-5)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_a_frozen_encoder_rests_and_the_others_keep_their_coefficients(
    optimizer,
):
    def move(modulation):
        model = make_model()
        model.encoders[0].trainable = False
        frozen = [ops.convert_to_numpy(v) for v in model.encoders[0].weights]
        moved = travel(modulation, optimizer(0.1), model)
        for variable, old in zip(
            model.encoders[0].weights, frozen, strict=True
        ):
            np.testing.assert_array_equal(ops.convert_to_numpy(variable), old)
        return moved

    plain, moved = move(None), move(Constant((0.1, 0.5)))
    assert moved["a"].size == 0
    for group, factor in [("b", 0.5), ("fusion", 1.0)]:
        np.testing.assert_allclose(
            moved[group], factor * plain[group], rtol=1e-5, atol=5e-7
        )


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        part = slice(12 * index, 12 * index + 12)
        return {k: v[part] for k, v in X.items()}, Y[part]


def tf_data():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(12)


def data_loader():
    torch = pytest.importorskip("torch")
    rows = [
        ({k: torch.from_numpy(v[i]) for k, v in X.items()}, int(Y[i]))
        for i in range(24)
    ]
    return torch.utils.data.DataLoader(rows, batch_size=12)


@pytest.mark.parametrize("source", [Batches, tf_data, data_loader])
def test_every_data_source_gives_the_same_weights(source):
    model, history = train(OGM(0.5), x=source(), batch_size=None)
    expected, expected_history = train(OGM(0.5))
    assert_equal_weights(weights(model), weights(expected), atol=1e-6)
    assert min(history["a_coefficient"] + history["b_coefficient"]) < 0.9
    np.testing.assert_allclose(
        history["a_coefficient"], expected_history["a_coefficient"], 1e-5
    )


# -- Mixed precision -----------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_a_step_that_is_not_finite_is_skipped(optimizer):
    batch = (X, Y, np.ones(24, "float32"))
    # Finite, but not with the loss' scale.
    broken = (X, Y, np.full(24, 1e15, "float32"))

    def fit(batches):
        model = make_model(dtype="mixed_float16")
        steps = len(batches)
        train(
            OGM(0.5),
            optimizer(0.05),
            model,
            JAX,
            x=(b for b in batches),
            steps_per_epoch=steps,
            batch_size=None,
        )
        return model

    model, expected = fit([batch, broken]), fit([batch])
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert_equal_weights(weights(model), weights(expected))
    coefficients = ops.convert_to_numpy(expected.modulation.coefficients)
    assert coefficients.min() < 0.9
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.modulation.coefficients),
        coefficients,
        # The weights have moved between the batches.
        atol=0.05,
    )
    for variable in (*model.optimizer.variables, *model.modulation.variables):
        assert np.isfinite(ops.convert_to_numpy(variable)).all()
    history = model.fit(X, Y, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert distance(weights(model), weights(expected)) > 1e-4


# -- Golden weights ------------------------------------------------------------

GOLDEN = [
    (optimizer, dtype)
    for optimizer in ("SGD", "Adam")
    for dtype in ("float32", "mixed_float16")
]


def compute(optimizer, dtype):
    """Weights and coefficients after six steps with OGM."""
    makers = {"SGD": lambda: SGD(0.1), "Adam": lambda: Adam(0.02)}
    model, history = train(
        OGM(0.5),
        makers[optimizer](),
        make_model(dtype=dtype),
        compiled=True,
        epochs=3,
    )
    return {
        "weights": [np.asarray(w, "float64").tolist() for w in weights(model)],
        "coefficients": [history["a_coefficient"], history["b_coefficient"]],
    }


@pytest.mark.parametrize("optimizer, dtype", GOLDEN)
def test_every_backend_trains_the_same_weights(optimizer, dtype):
    golden = json.loads(PATH.read_text())[f"{optimizer}, {dtype}"]
    actual = compute(optimizer, dtype)
    tolerance = 1e-6 if dtype == "float32" else 1e-3
    size = max(np.abs(w).max() for w in golden["weights"])
    assert np.min(golden["coefficients"]) < 0.9
    for key in ("weights", "coefficients"):
        for value, expected in zip(actual[key], golden[key], strict=True):
            np.testing.assert_allclose(value, expected, atol=tolerance * size)


if __name__ == "__main__":
    values = {", ".join(case): compute(*case) for case in GOLDEN}
    PATH.write_text(json.dumps(values) + "\n")
