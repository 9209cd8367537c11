import keras
import numpy as np
import pytest

from keras_mmrel.layers.modality_contribution import TEMPERATURES
from tests.helpers import to_numpy
from tests.models.cal_models import MECHANISMS
from tests.models.cal_models import X
from tests.models.cal_models import Y
from tests.models.cal_models import compiled
from tests.models.cal_models import crossentropy
from tests.models.cal_models import fit
from tests.models.cal_models import held
from tests.models.cal_models import make
from tests.models.cal_models import step
from tests.models.cal_models import weights

pytestmark = pytest.mark.filterwarnings("ignore:CAL measures")
ROWS = [0, 5, 7, 13, 20, 21]


@pytest.mark.one_backend
def test_holding_out_none_of_few_samples_is_warned_of():
    with pytest.warns(UserWarning, match=f"holds out none of {len(Y)} sample"):
        compiled().fit({**X, "held_out": np.zeros(len(Y))}, Y, verbose=0)


@pytest.mark.slow_on("jax", "tensorflow")
def test_holding_out_one_class_only_is_warned_of():
    one = held(np.flatnonzero(Y == 2))
    with pytest.warns(UserWarning, match="two classes .*: only class 2"):
        compiled(holdout=0.25).fit(one, Y, verbose=0)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("release", [1.0, 0.5])
def test_held_out_samples_are_not_learnt_from_until_released(release):
    # What is not decided by contributions.
    mechanisms = {**MECHANISMS, "acceleration": 0.0}
    x = held(ROWS)
    poisoned_x = {k: v.copy() for k, v in x.items()}
    poisoned_x["a"][ROWS] += 3.0
    poisoned_y = Y.copy()
    poisoned_y[ROWS] = (Y[ROWS] + 1) % 3
    clean = compiled(holdout=0.25, release=release, **mechanisms)
    fit(clean, x, epochs=2)
    poisoned = compiled(holdout=0.25, release=release, **mechanisms)
    fit(poisoned, poisoned_x, poisoned_y, epochs=2)
    difference = max(
        np.abs(a - b).max()
        for a, b in zip(weights(clean), weights(poisoned), strict=True)
    )
    if release == 1.0:
        assert difference < 1e-6
    else:
        assert difference > 1e-3


def test_contributions_come_from_held_out_samples_alone():
    model = compiled(
        keras.optimizers.SGD(0.0), holdout=0.25, measure="information"
    )
    fit(model, held(ROWS), batch_size=24, epochs=1)
    counts = to_numpy(model.contribution.counts)
    np.testing.assert_allclose(counts, 0.04 * len(ROWS), rtol=1e-5)
    value = {}
    for mask in ((1, 0), (0, 1), (1, 1)):
        masks = np.tile(np.array(mask, "float32"), (24, 1))
        out = model.predict({**X, "modality_mask": masks}, verbose=0)
        own = out["probabilities"][np.arange(24), Y][ROWS]
        value[mask] = np.clip(1 + np.log(own) / np.log(3), -1, 1).mean()
    lead = value[1, 0] - value[0, 1]
    expected = [0.5 * (value[1, 1] + lead), 0.5 * (value[1, 1] - lead)]
    np.testing.assert_allclose(
        to_numpy(model.contribution.contributions), expected, atol=1e-5
    )
    # Once they are released, what was estimated stays.
    model.clock.progress.assign(1.0)
    step(model, held([1]))
    np.testing.assert_array_equal(to_numpy(model.contribution.counts), counts)


def held_out_rows(group, seed=0, holdout=0.25):
    """Rows that `fit` holds out: those whose change changes no weight."""
    model = make(holdout=holdout, seed=seed)
    x = {**X, "holdout_group": group}
    default = type(model).side_inputs[0].default
    return np.flatnonzero(default(model, x, 24))


@pytest.mark.one_backend
def test_whole_groups_are_held_out():
    group = np.repeat([7, 3, 5, 9], 6)[np.random.default_rng(0).permutation(24)]
    found = {tuple(held_out_rows(group, seed)) for seed in range(20)}
    assert found == {tuple(np.flatnonzero(group == g)) for g in (3, 5, 7, 9)}
    # At least one, however large, and never all.
    assert len(held_out_rows(group, holdout=0.01)) == 6
    assert len(held_out_rows(group, holdout=0.99)) == 18
    model = compiled(holdout=0.25)
    fit(model, {**X, "holdout_group": group}, batch_size=24, epochs=1)
    np.testing.assert_allclose(to_numpy(model.contribution.counts), 0.04 * 6)
    with pytest.raises(ValueError, match="'holdout_group' must hold whole"):
        fit(compiled(), {**X, "holdout_group": group + 0.5})
    with pytest.raises(ValueError, match="a pipeline gives 'held_out'"):
        compiled(holdout=0.25).train_on_batch({**X, "holdout_group": group}, Y)


@pytest.mark.one_backend
def test_side_inputs_hold_one_value_a_sample_and_groups_no_second_choice():
    pairs = np.zeros((12, 2))
    text = r"'holdout_group' must hold one value .*shape=\(12, 2\)"
    with pytest.raises(ValueError, match=text):
        fit(compiled(), {**X, "holdout_group": pairs})
    both = {**held(ROWS), "holdout_group": np.arange(24)}
    text = "'holdout_group' must not be given beside 'held_out'"
    with pytest.raises(ValueError, match=text):
        fit(compiled(), both)

    def batches():
        for rows in (slice(0, 12), slice(12, 24)):
            x = {k: v[rows] for k, v in held(ROWS).items()}
            if rows.start:
                x["held_out"] = np.stack([x["held_out"]] * 2, axis=1)
            yield x, Y[rows]

    text = r"'held_out' must hold one value .*shape=\(12, 2\)"
    with pytest.raises(ValueError, match=text):
        compiled().fit(batches(), verbose=0)


@pytest.mark.parametrize("off", [{"holdout": 0.0}, {"release": 0.0}])
def test_without_held_out_samples_all_count_and_all_are_learnt(off):
    model = compiled(**{"holdout": 0.25, **off})
    logs = fit(model, batch_size=24, epochs=1)
    np.testing.assert_allclose(to_numpy(model.contribution.counts), 0.04 * 24)
    np.testing.assert_allclose(
        logs["loss"], crossentropy(make()).mean(), rtol=1e-5
    )


@pytest.mark.slow_on("tensorflow")
def test_fit_holds_out_a_share_fixed_by_the_seed():
    counts = []
    for seed in (0, 0, 1):
        model = compiled(holdout=0.25, seed=seed)
        fit(model, batch_size=8, epochs=1)
        counts.append(to_numpy(model.contribution.information))
        total = to_numpy(model.contribution.counts)
        assert 0.04 * 6 * 0.9 < total[0] < 0.04 * 6 * 1.0001
    np.testing.assert_array_equal(counts[0], counts[1])
    assert (counts[0] != counts[2]).any()


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_loss_keeps_its_scale_and_weights_combine():
    model = compiled(keras.optimizers.SGD(0.0), holdout=0.25)
    loss = crossentropy(model)
    kept = ~np.isin(np.arange(24), ROWS)
    weight = np.linspace(0.5, 1.5, 24)
    of_class = np.array([1.0, 2.0, 0.5])
    kwargs = {"batch_size": 24, "epochs": 1}
    logs = fit(model, held(ROWS), **kwargs)
    np.testing.assert_allclose(logs["loss"], loss[kept].mean(), rtol=1e-5)
    model.clock.reset()
    logs = fit(model, held(ROWS), sample_weight=weight, **kwargs)
    np.testing.assert_allclose(
        logs["loss"], (weight * loss)[kept].mean(), rtol=1e-5
    )
    model.clock.reset()
    logs = fit(
        model, held(ROWS), class_weight=dict(enumerate(of_class)), **kwargs
    )
    np.testing.assert_allclose(
        logs["loss"], (of_class[Y] * loss)[kept].mean(), rtol=1e-5
    )


def test_a_batch_without_held_out_samples_and_one_of_nothing_else():
    model = compiled(holdout=0.25, **MECHANISMS)
    moved = step(model, held([]))
    assert np.abs(moved["a"]).max() > 0
    assert (to_numpy(model.contribution.counts) == 0).all()
    moved = step(model, held(range(24)))
    assert all((v == 0).all() for v in moved.values())
    assert (to_numpy(model.contribution.counts) > 0).all()


def test_pipelines_may_name_held_out_samples():
    tf = pytest.importorskip("tensorflow")
    direct = compiled(holdout=0.25)
    fit(direct, held(ROWS), epochs=1)
    model = compiled(holdout=0.25)
    source = tf.data.Dataset.from_tensor_slices((held(ROWS), Y)).batch(12)
    model.fit(source, epochs=1, verbose=0)
    for a, b in zip(weights(model), weights(direct), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    # The key is no news where nothing is trained.
    expected = model.evaluate(X, Y, verbose=0)
    assert model.evaluate(held(ROWS), Y, verbose=0) == expected
    np.testing.assert_array_equal(
        model.predict(held(ROWS), verbose=0)["logits"],
        model.predict(X, verbose=0)["logits"],
    )


@pytest.mark.parametrize("values", [np.full(24, 0.5), np.arange(24) - 1.0])
def test_bad_held_out_values_are_refused(values):
    with pytest.raises(ValueError, match="'held_out' must hold only 0"):
        fit(compiled(holdout=0.25), {**X, "held_out": values})


# -- A modality of pure noise -------------------------------------------------


def noise_view(samples=360, seed=0):
    """Two weak views of three classes, and one that knows nothing."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % 3
    centres = np.random.default_rng(9).normal(size=(2, 3, 6))
    x = {
        name: centres[i, y] + 1.2 * rng.normal(size=(samples, 6))
        for i, name in enumerate("ab")
    }
    x["noise"] = 1.5 * rng.normal(size=(samples, 24))
    return {k: v.astype("float32") for k, v in x.items()}, y


def train(epochs=10, stop=None, model=None, **kwargs):
    x, y = noise_view()
    if model is None:
        keras.utils.set_random_seed(0)
        model = make(
            {"a": (6,), "b": (6,), "noise": (24,)},
            modality_loss_weight=1.0,
            acceleration=0.5,
            bottleneck=0.5,
            contribution_threshold=0.1,
            warmup=0.2,
            bottleneck_start=0.3,
            holdout=0.25,
            release=0.6,
        )
        model.compile(keras.optimizers.Adam(0.01))
    callbacks = []
    if stop is not None:
        callbacks = [
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: setattr(
                    model, "stop_training", epoch == stop
                )
            )
        ]
    settings = {"batch_size": 36, "shuffle": False, "verbose": 0, **kwargs}
    history = model.fit(x, y, epochs=epochs, callbacks=callbacks, **settings)
    return model, history.history


@pytest.fixture(scope="module")
def trained():
    return train()


@pytest.mark.slow_on("jax", "tensorflow")
def test_noise_contributes_nothing_and_is_compressed(trained):
    model, history = trained
    last = {k: v[-1] for k, v in history.items()}
    assert abs(last["noise_contribution"]) < 0.05
    assert last["noise_bottleneck"] > 0.3 * 0.5
    # By its raw confidence, what the network has memorised is no noise.
    contribution = model.contribution
    raw = to_numpy(contribution.certainties[2] / contribution.counts[2])
    assert raw[np.argmin(np.abs(TEMPERATURES - 1))] > 0.1
    for name in "ab":
        assert last[f"{name}_contribution"] > 0.2
        assert last[f"{name}_bottleneck"] == 0
        assert last[f"{name}_coefficient"] > last["noise_coefficient"]
    assert to_numpy(model.contribution.fractions)[2] < 0.25
    # Where trained samples are memorised, they cannot tell.
    assert last["accuracy"] > 0.9


@pytest.mark.slow_on("tensorflow")
def test_history_has_a_column_for_all_that_is_measured(trained):
    history = trained[1]
    expected = {"loss", "accuracy", "modality_loss", "bottleneck_loss"}
    for name in ("a", "b", "noise"):
        expected |= {
            f"{name}_{kind}"
            for kind in ("contribution", "bottleneck", "coefficient")
        }
    assert set(history) == expected
    # Off for the first 20 % and 30 % of the epochs.
    assert history["a_coefficient"][:2] == [1.0, 1.0]
    assert history["noise_coefficient"][-1] < 0.95
    assert max(history["noise_bottleneck"][:3]) == 0
    assert history["bottleneck_loss"][2] == 0 < history["bottleneck_loss"][4]
    # Frozen once the held-out samples are released.
    assert len(set(history["a_contribution"][5:])) == 1
    assert len(set(history["a_contribution"][:6])) == 6


@pytest.mark.slow_on("tensorflow")
def test_a_saved_training_goes_on_as_if_nothing_had_happened(trained, tmp_path):
    model, _ = train(stop=4)
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.saving.load_model(path)
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
    train(model=loaded, initial_epoch=5)
    for a, b in zip(loaded.weights, trained[0].weights, strict=True):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), atol=1e-5)
