"""What a row may ask for reaches its model, or is refused before any run."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.benchmark import Comparison
from keras_mmrel.benchmark import Dataset
from keras_mmrel.benchmark import Method
from keras_mmrel.benchmark import Training
from keras_mmrel.benchmark._train import train
from keras_mmrel.contract import MASK
from keras_mmrel.layers import RangeControl
from keras_mmrel.modulations import OGM
from tests.benchmark.helpers import arrays
from tests.benchmark.helpers import lines

pytestmark = pytest.mark.one_backend


def comparison(methods, **changes):
    settings = {
        "datasets": {"own": lambda: arrays()},
        "methods": methods,
        "seeds": [3],
        "training": {"epochs": 1, "batch_size": 10},
        "evaluation": {"corruptions": []},
    }
    return Comparison(**{**settings, **changes})


def test_a_factory_gets_what_it_takes_and_nothing_else(tmp_path):
    seen = {}

    def plain(modalities, num_classes):
        seen["plain"] = (modalities, num_classes)
        return keras_mmrel.LateFusion(modalities, num_classes)

    def seeded(modalities, num_classes, *, seed, units=5):
        seen["seeded"] = (seed, units)
        return keras_mmrel.LateFusion(modalities, num_classes)

    def everything(modalities, num_classes, **kwargs):
        seen["everything"] = kwargs
        return keras_mmrel.LateFusion(modalities, num_classes, **kwargs)

    methods = {
        "plain": plain,
        "seeded": Method(seeded, {"units": 7}),
        "everything": Method(everything, quality=RangeControl()),
    }
    comparison(methods).run(tmp_path / "clean", verbose=0)
    assert seen["plain"] == ({"a": (4,), "b": (3,)}, 2)
    assert seen["seeded"] == (3, 7)
    assert set(seen["everything"]) == {"seed", "quality"}
    noisy = {"noisy": {"noise_probability": 1.0}}
    comparison(methods, regimes=noisy).run(tmp_path / "noisy", verbose=0)
    assert seen["everything"]["augmentation"].noise_probability == 1.0
    assert seen["everything"]["augmentation"].seed == 3
    assert seen["seeded"] == (3, 7)
    runs = lines(tmp_path / "noisy", "run")
    assert [r["method"] for r in runs] == list(methods)


class Recording(keras.Model):
    """A functional model that keeps what it was asked."""

    def fit(self, x, *args, **kwargs):
        self.epochs_seen = [[x[i][0] for i in range(len(x))]]
        x.on_epoch_end()
        self.epochs_seen.append([x[i][0] for i in range(len(x))])
        return super().fit(x, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        self.asked = x
        return super().predict(x, *args, **kwargs)


def functional(modalities, num_classes, mask=False):
    """A Keras model that knows nothing of the library."""
    inputs = {n: keras.Input(s, name=n) for n, s in modalities.items()}
    if mask:
        inputs[MASK] = keras.Input((len(modalities),), name=MASK)
    joined = keras.layers.Concatenate()(list(inputs.values()))
    return Recording(inputs, keras.layers.Dense(num_classes)(joined))


NOISY = {"noisy": {"noise_probability": 1.0, "sigmas": [5.0]}}


def trained(model, quality):
    """Train a model with noise, and ask it about noise in one modality."""
    x, y = arrays()
    method = Method(lambda *args: model, quality=quality)
    row = comparison({"m": method}, regimes=NOISY)
    settings = Training(epochs=1, batch_size=20)
    made = train(method, row.regimes["noisy"], settings, {}, (x, y), seed=3)
    made.predict({"a": x["a"], "b": x["b"] + 50})
    return x


@pytest.mark.parametrize("mask", [False, True])
def test_the_engine_corrupts_and_controls_what_any_keras_model_sees(mask):
    model = functional({"a": (4,), "b": (3,)}, 2, mask)
    x = trained(model, "RangeControl")
    epochs = [
        {n: np.concatenate([batch[n] for batch in epoch]) for n in x}
        for epoch in model.epochs_seen
    ]
    for name, clean in x.items():
        low, high = clean.min(axis=0), clean.max(axis=0)
        slack = 0.06 * (high - low)
        for epoch in epochs:
            assert (epoch[name] > low - slack).all()
            assert (epoch[name] < high + slack).all()
            # It is noisy nevertheless, and so anew in every epoch.
            assert not np.isin(epoch[name], clean).any(axis=1).all()
        assert not np.isin(*(epoch[name] for epoch in epochs)).all()
    np.testing.assert_array_equal(model.asked["a"], x["a"])
    mean = np.tile(x["b"].mean(axis=0), (40, 1))
    np.testing.assert_allclose(model.asked["b"], mean, rtol=1e-4)
    assert (MASK in model.asked) == mask
    if mask:
        np.testing.assert_array_equal(model.asked[MASK], [[1, 0]] * 40)


def test_without_a_control_the_noise_reaches_any_keras_model():
    model = functional({"a": (4,), "b": (3,)}, 2)
    x = trained(model, None)
    assert max(np.abs(batch["a"]).max() for batch in model.epochs_seen[0]) > 10
    np.testing.assert_array_equal(model.asked["b"], x["b"] + 50)


def test_a_function_that_hides_a_model_of_the_library_is_a_row(tmp_path):
    methods = {
        "functional": Method(
            lambda modalities, classes: functional(modalities, classes),
            quality="RangeControl",
        ),
        # It numbers its training samples.
        "qmf": Method(
            lambda modalities, classes: keras_mmrel.QMF(modalities, classes),
            quality="RangeControl",
        ),
    }
    row = comparison(
        methods, regimes=NOISY, evaluation={"corruptions": ["gaussian_one"]}
    )
    row.run(tmp_path, verbose=0)
    for run in lines(tmp_path, "run"):
        accuracy = run["scores"]["accuracy"]
        assert len(accuracy) > 1 and None not in accuracy


def test_every_run_has_parts_of_its_own():
    layer, modulation = RangeControl(), OGM(alpha=0.5)
    method = Method("LateFusion", quality=layer, modulation=modulation)
    x, _ = arrays()
    regime = comparison({"m": method}).regimes["clean"]
    first, second = (
        method.make(x, 2, {}, 0, **method.layers(regime, 0)[0])
        for _ in range(2)
    )
    assert isinstance(first.quality, RangeControl)
    assert len({id(first.quality), id(second.quality), id(layer)}) == 3
    assert method.modulation.make().alpha == 0.5
    assert method.modulation.make() is not modulation


def test_the_range_control_finds_what_leaves_the_range(tmp_path):
    x, y = arrays(samples=200)
    comparison(
        {
            "plain": {"model": "LateFusion"},
            "controlled": {"model": "LateFusion", "quality": "RangeControl"},
        },
        datasets={"own": lambda: (x, y)},
        training={"epochs": 20, "learning_rate": 0.02},
        evaluation={
            "corruptions": ["gaussian_one"],
            "severities": [30.0],
        },
    ).run(tmp_path, verbose=0)
    accuracy = {
        run["method"]: run["scores"]["accuracy"][1]
        for run in lines(tmp_path, "run")
    }
    assert accuracy["controlled"] > accuracy["plain"] + 0.1


def test_a_quality_before_any_model_needs_to_adapt(tmp_path):
    method = Method(
        lambda modalities, classes: functional(modalities, classes),
        quality=lambda: keras.layers.Identity(),
    )
    with pytest.raises(ValueError, match="`quality` must have `adapt`"):
        comparison({"m": method}).run(tmp_path, verbose=0)


def test_a_row_of_some_modalities_sees_the_corruptions_of_all(tmp_path):
    seen = {}

    def recording(name):
        class Recording(keras_mmrel.LateFusion):
            def predict(self, x, *args, **kwargs):
                seen.setdefault(name, []).append(dict(x))
                return super().predict(x, *args, **kwargs)

        return Recording

    made = comparison(
        {
            "both": recording("both"),
            "b alone": {"model": recording("b alone"), "modalities": ["b"]},
        },
        evaluation={"corruptions": ["gaussian_one"], "severities": [2.0]},
    )
    made.run(tmp_path, verbose=0)
    assert len(lines(tmp_path, "run")) == 2
    for both, alone in zip(seen["both"], seen["b alone"], strict=True):
        assert set(alone) - {"modality_mask"} == {"b"}
        np.testing.assert_array_equal(both["b"], alone["b"])
    clean, noisy = (x["b"] for x in seen["b alone"])
    # Noise on one of two modalities leaves about half of the samples of `b`.
    kept = (clean == noisy).all(axis=1).mean()
    assert 0 < kept < 1
    with pytest.raises(ValueError, match=r"out of \['a', 'b'\].*'c'"):
        comparison({"m": {"model": "LateFusion", "modalities": ["c"]}}).run(
            tmp_path / "other", verbose=0
        )


def test_what_a_missing_modality_holds_does_not_change_the_scale():
    parts = []
    for placeholder in (0.0, -9999.0, np.nan):
        x, y = arrays()
        mask = np.ones((40, 2), "float32")
        mask[::5, 0] = 0
        x["a"][::5] = placeholder
        data = Dataset(lambda x=x, m=mask, y=y: ({**x, MASK: m}, y))
        (x, _), _ = data.load("own", None, Path("."), None).parts(0)
        parts.append(x["a"][x[MASK][:, 0] > 0])
    np.testing.assert_array_equal(parts[0], parts[1])
    np.testing.assert_array_equal(parts[0], parts[2])
    assert parts[0].min() == 0 and parts[0].max() == 1


def test_a_changed_function_is_another_row(tmp_path):
    def old(modalities, num_classes):
        return keras_mmrel.LateFusion(modalities, num_classes)

    def new(modalities, num_classes):
        return keras_mmrel.ConcatFusion(modalities, num_classes)

    comparison({"mine": old}).run(tmp_path, verbose=0)
    comparison({"mine": old}).run(tmp_path, verbose=0)
    with pytest.raises(ValueError, match="another `methods.mine`"):
        comparison({"mine": new}).run(tmp_path, verbose=0)


def test_a_training_part_without_a_class_is_refused_before_any_run(tmp_path):
    x, y = arrays(classes=3)
    low = y < 2
    data = (
        ({k: v[low] for k, v in x.items()}, y[low]),
        ({k: v[~low] for k, v in x.items()}, y[~low]),
    )
    with pytest.raises(ValueError, match=r"`datasets.own` .* classes \[2\]"):
        comparison({"LateFusion": {}}, datasets={"own": lambda: data}).run(
            tmp_path, verbose=0
        )
    assert not (tmp_path / "runs.jsonl").exists()


def test_probes_are_asked_for_by_rows(tmp_path):
    made = comparison(
        {
            "all": {"model": "ConcatFusion"},
            "one": {"model": "ConcatFusion", "probes": ["linear_probe"]},
        },
        evaluation={
            "corruptions": [],
            "probes": ["modality_accuracy", "linear_probe", "learning_curves"],
        },
    )
    made.run(tmp_path, verbose=0)
    found = {run["method"]: run["probes"] for run in lines(tmp_path, "run")}
    assert set(found["one"]) == {"linear_probe/a", "linear_probe/b"}
    assert set(found["all"]) > {*found["one"], "modality_accuracy/a"}
    assert all(0 <= v <= 1 for v in found["one"].values())
    # The classes are two deviations apart in `b`: even untrained features
    # tell them apart.
    assert found["one"]["linear_probe/b"] > 0.6
    with pytest.raises(ValueError, match="`methods.m.probes` must have keys"):
        comparison({"m": {"model": "LateFusion", "probes": ["depth"]}})


def test_folds_are_runs_of_their_own(tmp_path):
    def load(fold):
        return arrays(seed=fold)

    made = comparison(
        {"LateFusion": {}},
        datasets={"own": Dataset(load, folds=[0, 4])},
        seeds=2,
    )
    made.run(tmp_path, verbose=0)
    runs = lines(tmp_path, "run")
    assert [(r["seed"], r["fold"]) for r in runs] == [
        (0, 0), (0, 4), (1, 0), (1, 4),
    ]  # fmt: skip
    assert len({r["data"] for r in runs}) == 2
    assert len(list((tmp_path / "predictions").glob("*.npz"))) == 4
    made.report(tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "Errors are over folds" in text


def test_data_regime_and_row_replace_the_training_in_this_order():
    made = comparison(
        {"m": {"model": "LateFusion", "training": {"epochs": 7}}},
        datasets={
            "own": Dataset(
                lambda: arrays(), training={"epochs": 5, "batch_size": 3}
            )
        },
        regimes={"r": {"training": {"batch_size": 4, "learning_rate": 0.5}}},
    )
    (job,) = made.jobs()
    (candidate,) = made.tuning.candidates()
    assert made.training_of(job, candidate) == Training(
        epochs=7, batch_size=4, learning_rate=0.5
    )


def test_the_schedules_are_as_they_say():
    options = {"epochs": 10, "batch_size": 10, "learning_rate": 1.0}

    def rates(**changes):
        optimizer = Training(**options, **changes).make_optimizer(95)
        rate = optimizer._learning_rate
        if not isinstance(
            rate, keras.optimizers.schedules.LearningRateSchedule
        ):
            return [float(optimizer.learning_rate)] * 3
        return [float(rate(step)) for step in (0, 69, 100)]

    assert rates(schedule="constant") == [1.0] * 3
    np.testing.assert_allclose(rates(schedule="step"), [1, 1, 0.1], rtol=1e-5)
    first, middle, last = rates()
    assert first == 1 and last == pytest.approx(0.05)
    assert middle == pytest.approx(
        0.05 + 0.95 * (1 + np.cos(np.pi * 0.69)) / 2, rel=1e-4
    )
    sgd = Training(**options, optimizer="sgd", momentum=0.9).make_optimizer(95)
    assert sgd.momentum == 0.9


def test_batches_are_whole_where_that_is_asked_for(tmp_path):
    sizes = set()

    def recording(modalities, num_classes):
        class Recording(keras_mmrel.LateFusion):
            def call(self, inputs, training=None):
                if training:
                    sizes.add(len(inputs["a"]))
                return super().call(inputs, training=training)

        return Recording(modalities, num_classes)

    comparison(
        {"m": recording},
        training={"epochs": 1, "batch_size": 9, "whole_batches": True},
    ).run(tmp_path, verbose=0)
    # Of 28 training samples 27 are left.
    assert sizes == {9}


@pytest.mark.parametrize(
    "model", [3, "Late Fusion", "no.such.Model", keras.layers.Dense(3)]
)
def test_what_makes_no_model_is_refused(model):
    with pytest.raises(ValueError, match="`methods.m.model` must be"):
        comparison({"m": {"model": model}})


def test_a_row_may_do_without_the_judge_of_its_model():
    method = Method("MICINet", {"quality": None})
    x, _ = arrays()
    model = method.make(x, 3, {}, seed=0)
    assert model.quality is None
    with pytest.raises(ValueError, match="Received: 'quality'"):
        Method("MICINet", {"quality": "auto"})
