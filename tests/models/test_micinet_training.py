"""MICINet trains on whatever a user may bring, and goes on after saving."""

import keras
import numpy as np
import pytest

from tests.helpers import everywhere
from tests.helpers import to_numpy
from tests.helpers import vectors
from tests.micinet_models import SHAPES
from tests.micinet_models import X
from tests.micinet_models import Y
from tests.micinet_models import begin
from tests.micinet_models import compiled
from tests.micinet_models import make

OPTIONS = ("global_prior", "removal", "compensation", "weighting")
OWN_LOSSES = {
    "global_prior": set(),
    "removal": {"divergence_loss"},
    "compensation": {"compensation_loss"},
    "weighting": set(),
}


def train(model, x, y):
    """A step in each phase; every loss and weight stays finite."""
    for phase in (1, 2):
        begin(model, phase)
        logs = model.train_on_batch(x, y, return_dict=True)
        assert np.isfinite(list(logs.values())).all()
    for weight in model.weights:
        assert np.isfinite(to_numpy(weight)).all(), weight.path
    return logs


# -- Data ---------------------------------------------------------------------


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize(
    "labels",
    [
        np.zeros(24, "int32"),
        np.array([2] + [0, 1] * 11 + [0], "int32"),
    ],
    ids=["two classes absent", "one sample of a class"],
)
def test_a_batch_may_lack_classes(labels):
    train(compiled(), X, labels)


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_class_only_in_held_out_data_is_no_error():
    model = compiled()
    known, other = np.minimum(Y, 1), np.full_like(Y, 2)
    history = model.fit(
        X, known, batch_size=24, validation_data=(X, other), verbose=0
    ).history
    assert np.isfinite([v[-1] for v in history.values()]).all()
    assert history["val_initial_loss"][0] > 0
    # What only training has.
    for name in set().union(*OWN_LOSSES.values()):
        assert history[f"val_{name}"] == [0.0], name


@pytest.mark.slow_on("jax", "tensorflow")
def test_one_modality_and_two_classes():
    x, y = vectors(24, {"a": (6,)}, classes=2)
    model = compiled(shapes={"a": (6,)}, classes=2, run_eagerly=False)
    train(model, x, y)
    out = model.predict(x, verbose=0)
    np.testing.assert_allclose(out["discriminative_power"], 1, atol=1e-6)
    np.testing.assert_array_equal(out["compensation"], 0)
    np.testing.assert_allclose(
        to_numpy(model.fusion.global_ici.confusion), [[[0, 1], [1, 0]]]
    )


@pytest.mark.slow_on("jax", "tensorflow")
def test_fifty_classes_train():
    x, y = vectors(100, SHAPES, classes=50)
    model = compiled(classes=50, run_eagerly=False)
    train(model, x, y)
    assert model.fusion.global_ici.sums.shape == (2, 50, 8)
    confusion = to_numpy(model.fusion.global_ici.confusion)
    np.testing.assert_allclose(confusion.sum(axis=-1), 1, atol=1e-5)
    assert (np.einsum("mkk->mk", confusion) == 0).all()


@pytest.mark.slow_on("jax")
def test_two_images_train_with_the_default_encoders():
    rng = np.random.default_rng(0)
    shapes = {"left": (8, 8, 1), "right": (8, 8, 3)}
    x = {
        name: rng.normal(size=(24, *shape)).astype("float32")
        for name, shape in shapes.items()
    }
    model = compiled(shapes=shapes)
    before = [to_numpy(w) for w in model.encoders[1].trainable_weights]
    train(model, x, Y)
    after = [to_numpy(w) for w in model.encoders[1].trainable_weights]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    assert model.predict(x, verbose=0)["ici_fraction"].shape == (24, 2)


# -- Learning -----------------------------------------------------------------


@pytest.mark.slow_on("jax", "tensorflow")
def test_it_learns_and_finds_what_was_confused():
    x, y = vectors()
    # What the removal does where nothing was noticed before it.
    shapes = {k: v.shape[1:] for k, v in x.items()}
    model = make(shapes=shapes, units=16, quality=None)
    model.compile(keras.optimizers.AdamW(2e-2))
    model.fit(x, y, batch_size=24, epochs=35, verbose=0)
    clean = model.predict(x, verbose=0)
    assert (clean["logits"].argmax(axis=1) == y).mean() > 0.95
    noise = np.random.default_rng(1).normal(size=x["a"].shape)
    out = model.predict({**x, "a": x["a"] + 5.0 * noise}, verbose=0)
    assert (
        out["ici_fraction"][:, 0].mean()
        > clean["ici_fraction"][:, 0].mean() + 0.2
    )
    assert out["ici_fraction"][:, 0].mean() > 0.8
    power = out["discriminative_power"].mean(axis=0)
    assert power[0] < 0.9 * min(power[1:])
    assert (out["logits"].argmax(axis=1) == y).mean() > 0.85


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("name", everywhere(OPTIONS, ["compensation"]))
def test_every_ablation_trains_without_what_it_leaves_out(name):
    model = compiled(**{name: False})
    before = [to_numpy(w) for w in model.trainable_weights]
    logs = train(model, X, Y)
    full = set().union(*OWN_LOSSES.values())
    assert set(logs) & full == full - OWN_LOSSES[name]
    still = {
        weight.path.split("/")[-2]
        for weight, old in zip(model.trainable_weights, before, strict=True)
        if (to_numpy(weight) == old).all()
    }
    assert still == set()
    out = model.predict(X, verbose=0)
    if name == "removal":
        assert (out["ici_fraction"] == 0).all()
    if name == "compensation":
        assert (out["compensation"] == 0).all()
    if name == "weighting":
        np.testing.assert_allclose(out["discriminative_power"], 0.5)


@pytest.mark.slow_on("jax", "tensorflow")
def test_all_ablations_at_once_train():
    model = compiled(injection=0.0, **dict.fromkeys(OPTIONS, False))
    logs = train(model, X, Y)
    assert set(logs) == {
        "loss",
        "accuracy",
        "initial_loss",
        "kept_loss",
        "confidence_loss",
    }


# -- Going on -----------------------------------------------------------------


@pytest.mark.slow_on("jax")
def test_a_saved_training_goes_on_as_if_nothing_had_happened(tmp_path):
    kwargs = {"batch_size": 24, "shuffle": False, "verbose": 0}
    model = compiled()
    model.fit(X, Y, epochs=2, **kwargs)
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.saving.load_model(path)
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
    histories = [m.fit(X, Y, **kwargs).history for m in (model, loaded)]
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], atol=1e-5)
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), atol=1e-6)
    for clock in (model.clock, loaded.clock):
        assert float(clock.step) == 3
        assert float(clock.warmup_steps(model.warmup)) == 1
    assert (to_numpy(model.fusion.global_ici.sums) != 0).any()


# -- Cost ---------------------------------------------------------------------


def sizes_of(model, x, y):
    """Elements of every tensor of a training step and its gradients."""
    import jax

    def loss(trainable):
        found = model.compute_loss_and_updates(
            trainable,
            [v.value for v in model.non_trainable_variables],
            [v.value for v in model.metrics_variables],
            x,
            y,
            None,
            training=True,
            optimizer_variables=[v.value for v in model.optimizer.variables],
        )
        return found[0]

    trainable = [v.value for v in model.trainable_variables]
    outer = jax.make_jaxpr(jax.value_and_grad(loss))(trainable)
    found, queue = [], [outer.jaxpr]
    while queue:
        jaxpr = queue.pop()
        for equation in jaxpr.eqns:
            found += [v.aval.size for v in equation.outvars]
            for leaf in jax.tree.leaves(
                list(equation.params.values()),
                is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr"),
            ):
                if hasattr(leaf, "eqns"):
                    queue.append(leaf)
                elif hasattr(leaf, "jaxpr"):
                    queue.append(leaf.jaxpr)
    return found


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.skipif(
    keras.config.backend() != "jax",
    reason="Only JAX lists every tensor of a step before it runs.",
)
@pytest.mark.parametrize("classes, batch", [(40, 8), (10, 80)])
def test_no_tensor_holds_all_pairs_of_classes_of_all_samples(classes, batch):
    x, y = vectors(batch, SHAPES, classes=classes)
    model = compiled(classes=classes, quality=None)
    found = sizes_of(model, x, y)
    assert len(found) > 500
    assert max(found) < batch * classes**2
    # Confusion degrees are among what was found.
    assert 2 * classes**2 in found
