"""Each private name of Keras in use is still there and means the same."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.backend import upstream
from tests.helpers import SHAPES
from tests.helpers import vectors


def compiled(optimizer="sgd"):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    model.compile(optimizer, run_eagerly=True)
    return model


def test_fit_says_that_it_evaluates_what_it_has_checked():
    seen = []

    class Model(keras_mmrel.ConcatFusion):
        def evaluate(self, *args, **kwargs):
            seen.append(kwargs.get(upstream.CACHED_EVALUATION))
            return super().evaluate(*args, **kwargs)

    x, y = vectors()
    model = Model(SHAPES, 3)
    model.compile("sgd", run_eagerly=True)
    model.fit(x, y, batch_size=48, validation_data=(x, y), verbose=0)
    assert seen == [True]


def test_the_error_about_an_unknown_class_has_its_words(tmp_path):
    class Unknown(keras_mmrel.ConcatFusion):
        pass

    Unknown(SHAPES, 3).save(tmp_path / "model.keras")
    with pytest.raises(TypeError, match=upstream.UNKNOWN_CLASS):
        keras.saving.load_model(tmp_path / "model.keras")


def test_compute_loss_calls_the_public_one():
    x, y = vectors()
    model = compiled()
    arguments = {"x": x, "y": y, "y_pred": model(x), "sample_weight": None}
    private = upstream.compute_loss(model, **arguments, training=False)
    public = model.compute_loss(**arguments, training=False)
    assert float(private) == float(public)


def test_the_loss_tracker_averages_the_loss_of_an_epoch():
    x, y = vectors()
    model = compiled()
    logs = model.evaluate(x, y, batch_size=48, verbose=0, return_dict=True)
    assert float(upstream.loss_tracker(model).result()) == logs["loss"]


@pytest.mark.skipif(keras.config.backend() != "jax", reason="traces shapes")
def test_models_are_built_with_one_symbolic_batch():
    keras_mmrel.QADMNet(SHAPES, 3)
    before = upstream.symbolic_shape.cache_info()
    keras_mmrel.QADMNet(SHAPES, 3)
    after = upstream.symbolic_shape.cache_info()
    assert after.hits > before.hits > 0
    assert after.currsize == before.currsize == 1
    # What is built by others is as it was.
    outputs = keras.layers.Lambda(ops.abs)(keras.Input((4,)))
    assert outputs.shape == (None, 4)
    assert upstream.symbolic_shape.cache_info() == after


@pytest.mark.skipif(keras.config.backend() != "jax", reason="stateless step")
def test_the_stateless_functions_of_jax_take_what_our_step_gives_them():
    model = compiled()
    names = list(inspect.signature(upstream.loss_and_updates(model)).parameters)
    assert names[:6] == [
        "trainable_variables",
        "non_trainable_variables",
        "metrics_variables",
        "x",
        "y",
        "sample_weight",
    ]
    assert {"training", "optimizer_variables"} <= set(names)
    x, y = vectors()
    logs, variables = upstream.update_metrics(
        model,
        [v.value for v in model.metrics_variables],
        ops.ones(()),
        x,
        y,
        model(x),
        None,
    )
    assert "loss" in logs
    assert len(variables) == len(model.metrics_variables)


def test_an_optimizer_keeps_its_averages_in_the_order_of_the_weights():
    x, y = vectors()
    model = compiled(keras.optimizers.SGD(0.1, use_ema=True))
    model.fit(x, y, batch_size=48, verbose=0)
    averages = upstream.weight_averages(model.optimizer)
    assert len(averages) == len(model.trainable_variables)
    for average, variable in zip(
        averages, model.trainable_variables, strict=True
    ):
        assert tuple(average.shape) == tuple(variable.shape)


def test_an_optimizer_knows_the_weights_that_it_was_built_for():
    x, y = vectors()
    optimizer = keras.optimizers.SGD(0.1)
    model = compiled(optimizer)
    model.fit(x, y, batch_size=48, verbose=0)
    weights = model.trainable_variables
    count = len(weights)
    assert upstream.built_for(optimizer, weights) == (count, count, count)
    assert upstream.built_for(optimizer, weights[1:])[2] == count - 1
    others = compiled().trainable_variables
    assert upstream.built_for(optimizer, others) == (count, count, 0)


def test_a_variable_whose_value_a_run_holds_is_known():
    if keras.config.backend() != "jax":
        pytest.skip("JAX alone takes values away")
    emptied = []
    model = compiled()
    model.compile("sgd")
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: emptied.append(
            upstream.is_emptied(model.trainable_variables[0])
        )
    )
    x, y = vectors()
    model.fit(x, y, batch_size=48, callbacks=[look], verbose=0)
    assert emptied == [True]
    assert not upstream.is_emptied(model.trainable_variables[0])


def test_it_is_known_whether_keras_finds_out_shapes():
    seen = []

    class Layer(keras.layers.Layer):
        def call(self, x):
            seen.append(upstream.in_symbolic_scope())
            return x

    layer = Layer()
    layer(np.ones((2, 3)))
    layer(keras.KerasTensor((2, 3)))
    layer(np.ones((2, 3)))
    # It is called once or twice for the shapes.
    assert [seen[0], *set(seen[1:-1]), seen[-1]] == [False, True, False]


def test_own_state_is_that_of_the_layer_alone():
    layer = keras.layers.BatchNormalization()
    outer = keras.Sequential([layer])
    outer.build((None, 3))
    assert len(upstream.own_state(layer)) == 2
    assert len(upstream.own_state(outer)) == 0
    np.testing.assert_array_equal(upstream.own_state(layer)[0], np.zeros(3))


def test_dropout_without_a_seed_draws_from_its_own_generator():
    layer = keras.layers.Dropout(0.5)
    model = keras.Sequential([keras.Input((200,)), layer])
    upstream.keep_seeds(model)
    state = ops.convert_to_numpy(layer.seed_generator.state)
    x = np.ones((4, 200), "float32")
    first = ops.convert_to_numpy(model(x, training=True))
    layer.seed_generator.state.assign(state)
    keras.utils.set_random_seed(99)
    again = ops.convert_to_numpy(model(x, training=True))
    np.testing.assert_array_equal(first, again)
    assert 0 < (first == 0).mean() < 1


def test_the_global_seed_generator_is_what_draws_without_a_seed():
    state = upstream.global_seed_generator().state
    before = ops.convert_to_numpy(state)
    first = ops.convert_to_numpy(keras.random.normal((3,)))
    state.assign(before)
    again = ops.convert_to_numpy(keras.random.normal((3,)))
    np.testing.assert_array_equal(first, again)


def test_what_keras_refuses_for_safety_has_its_words(tmp_path):
    layer = keras.layers.Lambda(lambda x: 2 * x)
    model = keras.Sequential([keras.Input((2,)), layer])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError) as error:
        keras.saving.load_model(tmp_path / "model.keras")
    assert any(words in str(error.value) for words in upstream.UNSAFE)


def test_keras_leaves_a_marked_error_as_it_is():
    class Layer(keras.layers.Layer):
        def __init__(self, mark):
            super().__init__()
            self.mark = mark

        def call(self, x):
            raise self.mark(ValueError("One sentence."))

    x = np.ones((2, 3))
    with pytest.raises(ValueError) as error:
        Layer(upstream.plain)(x)
    assert str(error.value) == "One sentence."
    with pytest.raises(ValueError, match="Exception encountered"):
        Layer(lambda error: error)(x)
    with pytest.raises(ValueError) as error:
        Layer(lambda error: error)(x)
    # The mark is Keras' own.
    assert hasattr(error.value, upstream.CALL_INFO)


def test_a_callback_holds_its_model_under_the_private_name():
    model, callback = compiled(), keras.callbacks.Callback()
    callback.set_model(model)
    assert vars(callback)[upstream.MODEL_OF_A_CALLBACK] is model


@pytest.mark.skipif(
    keras.config.backend() == "tensorflow", reason="builds nothing ahead"
)
def test_what_was_built_from_a_batch_needs_none_from_the_data():
    x, y = vectors()
    model = compiled()
    metrics = model.metrics[-1]
    assert not metrics.built
    upstream.build_state(model, (x, y))
    assert model.optimizer.built and metrics.built


def test_made_by_names_the_layer_of_a_tensor():
    inputs = keras.Input((3,), name="given")
    output = keras.layers.Dense(2, name="made")(inputs)
    assert upstream.made_by(inputs) == "given"
    assert upstream.made_by(output) == "made"


def test_sublayers_are_those_that_a_layer_holds_itself():
    inner, other = keras.layers.Dense(2), keras.layers.Dense(3)
    model = keras.Sequential([keras.Sequential([inner]), other])
    held = list(upstream.sublayers(model))
    assert held[-1] is other and inner not in held and len(held) == 2
    assert list(upstream.sublayers(other)) == []


def test_all_layers_are_those_inside_others_too():
    inner = keras.layers.Dense(2)
    model = keras.Sequential([keras.Sequential([inner])])
    assert list(upstream.all_layers(model))[0] is model
    assert inner in upstream.all_layers(model)


def test_readers_are_what_a_tensor_of_a_graph_goes_into():
    first, last = keras.layers.Dense(2), keras.layers.Dense(3)
    inputs = keras.Input((4,))
    middle = first(inputs)
    for network in (
        keras.Model(inputs, last(middle)),
        keras.Sequential([inputs, first, last]),
    ):
        ((found, outputs),) = upstream.readers(network, network.inputs[0])
        assert found is first
        assert upstream.readers(network, outputs[0])[0][0] is last
    assert upstream.readers(first, inputs) == []


def test_a_call_is_known_while_it_runs():
    class Layer(keras.layers.Layer):
        def call(self, x):
            seen.append(upstream.in_a_call())
            return x

    seen = []
    keras.Sequential([Layer()])(np.ones((1, 2)))
    assert seen and all(seen) and not upstream.in_a_call()


# Keras 3.15 cannot read its own `Lamb` again; `MultiOptimizer` is of several.
OTHERS = ("Optimizer", "LossScaleOptimizer", "Lamb", "MultiOptimizer")
OPTIMIZERS = {
    name: value
    for name, value in vars(keras.optimizers).items()
    if inspect.isclass(value)
    and issubclass(value, keras.optimizers.Optimizer)
    and name not in OTHERS
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_has_a_name_for_every_backend(name):
    made = OPTIMIZERS[name](learning_rate=0.25)
    config = upstream.neutral_optimizer(keras.optimizers.serialize(made))
    assert "backend" not in str(config)
    again = keras.optimizers.deserialize(config)
    assert type(again) is type(made)
    assert float(again.learning_rate) == 0.25
    scaled = keras.optimizers.LossScaleOptimizer(made)
    config = keras.optimizers.serialize(scaled)
    config = upstream.neutral_optimizer(config)
    assert "backend" not in str(config)
    again = keras.optimizers.deserialize(config)
    assert type(again.inner_optimizer) is type(made)
