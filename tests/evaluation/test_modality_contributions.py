import functools
import itertools

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.evaluation import modality_contributions
from tests.helpers import vectors

pytest.importorskip("pandas")

NAMES = ("a", "b")
Y = np.array([0, 0, 1, 1, 1, 1])
# Evidence for class 1 over class 0; without any the answer is class 0. Right
# without a modality: 0, 1; with a: 0 to 3; with b: 1, 3, 4; with both: all.
X = {
    "a": np.array([[-1.0], [0.0], [1.0], [1.0], [0.0], [0.06]], "float32"),
    "b": np.array([[0.5], [0.0], [0.0], [1.0], [1.0], [0.06]], "float32"),
}


def probabilities(evidence):
    evidence = evidence - 0.1
    return ops.softmax(ops.concatenate([0.0 * evidence, evidence], axis=1))


class Evidence(keras.Model):
    """Adds the evidence of the modalities that are there."""

    def __init__(self, names=NAMES):
        super().__init__()
        self.modality_names = list(names)
        self.predicted, self.traced = 0, 0

    def call(self, inputs):
        self.traced += 1
        mask = inputs["modality_mask"]
        x = [inputs[name] for name in self.modality_names]
        return {
            "probabilities": probabilities(
                sum(mask[:, i : i + 1] * x[i] for i in range(len(x)))
            )
        }

    def predict(self, *args, **kwargs):
        self.predicted += 1
        return super().predict(*args, **kwargs)


def plain_model(outputs=probabilities):
    inputs = {name: keras.Input((1,), name=name) for name in NAMES}
    return keras.Model(inputs, outputs(inputs["a"] + inputs["b"]))


def check_the_values_by_hand(table):
    assert list(table.columns) == [
        "modality",
        "shapley",
        "leave_one_out",
        "alone",
    ]
    assert table["modality"].tolist() == ["a", "b"]
    np.testing.assert_allclose(table["shapley"], [5 / 12, 3 / 12], atol=1e-6)
    np.testing.assert_allclose(table["leave_one_out"], [3 / 6, 2 / 6])
    np.testing.assert_allclose(table["alone"], [4 / 6, 3 / 6])
    assert table.attrs == {
        "measure": "accuracy",
        "all": 1.0,
        "none": 2 / 6,
        "exact": True,
        "samples": 6,
    }


def test_contributions_are_those_enumerated_by_hand():
    model = Evidence()
    check_the_values_by_hand(modality_contributions(model, X, Y))
    assert model.predicted == 4


def test_plain_model_gets_zeros_or_a_baseline_of_the_user():
    model = plain_model()
    table = modality_contributions(model, X, Y, baseline="zeros")
    check_the_values_by_hand(table)
    nothing = {"b": np.zeros(1), "a": np.zeros(1)}
    table = modality_contributions(model, X, Y, baseline=nothing)
    check_the_values_by_hand(table)


def test_plain_model_gets_the_mean_by_default():
    model = plain_model()
    table = modality_contributions(model, X, Y, measure="log_loss")

    def value(*present):
        x = {
            name: X[name] if name in present else 0 * X[name] + X[name].mean()
            for name in NAMES
        }
        p = model.predict(x, verbose=0)
        return np.log(p[np.arange(6), Y]).mean()

    both, none, a, b = value("a", "b"), value(), value("a"), value("b")
    np.testing.assert_allclose(
        table["shapley"],
        [(a - none + both - b) / 2, (b - none + both - a) / 2],
        atol=1e-6,
    )
    np.testing.assert_allclose(
        table["leave_one_out"], [both - b, both - a], atol=1e-6
    )
    np.testing.assert_allclose(table["alone"], [a, b], atol=1e-6)


def test_logits_of_a_plain_model_do_for_accuracy_only():
    model = plain_model(lambda e: ops.concatenate([0.1 - e, 0.0 * e], axis=1))
    table = modality_contributions(model, X, Y, baseline="zeros")
    check_the_values_by_hand(table)
    with pytest.raises(ValueError, match="not logits|sum to one"):
        modality_contributions(model, X, Y, "information", baseline="zeros")


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    shapes = {"a": (6,), "b": (4,), "c": (5,)}
    model = keras_mmrel.LateFusion(shapes, 3)
    model.compile(keras.optimizers.Adam(0.01))
    x, y = vectors(shapes=shapes)
    x["c"] = np.random.default_rng(0).normal(size=x["c"].shape)
    x["c"] = x["c"].astype("float32")
    model.fit(x, y, batch_size=24, epochs=10, verbose=0)
    return model, x, y


@pytest.fixture(scope="module")
def told(trained):
    """What the trained model says if it is told who is there."""
    model, x, _ = trained

    @functools.cache
    def probabilities(coalition):
        mask = np.tile(np.isin(range(3), list(coalition)), (48, 1))
        inputs = {**x, "modality_mask": mask.astype("float32")}
        return model.predict(inputs, batch_size=48, verbose=0)["probabilities"]

    return probabilities


@pytest.mark.parametrize("measure", ["accuracy", "log_loss", "information"])
def test_library_model_is_told_what_is_missing(trained, told, measure):
    model, x, y = trained

    def value(*coalition):
        p = told(frozenset(coalition))
        if measure == "accuracy":
            return (p.argmax(axis=1) == y).mean()
        logs = np.log(p[np.arange(48), y].astype("float64"))
        return logs.mean() / (np.log(2) if measure == "information" else 1)

    none, everyone = value(), value(0, 1, 2)
    marginal = np.zeros(3)
    for order in itertools.permutations(range(3)):
        for i, player in enumerate(order):
            marginal[player] += value(*order[: i + 1]) - value(*order[:i])
    table = modality_contributions(model, x, y, measure, batch_size=48)
    np.testing.assert_allclose(table["shapley"], marginal / 6, atol=1e-5)
    np.testing.assert_allclose(
        table["shapley"].sum(), everyone - none, atol=1e-5
    )
    np.testing.assert_allclose(
        table["leave_one_out"][1], everyone - value(0, 2), atol=1e-5
    )
    shift = none if measure == "information" else 0.0
    np.testing.assert_allclose(table["alone"][2], value(2) - shift, atol=1e-5)
    np.testing.assert_allclose(table.attrs["all"], everyone - shift, atol=1e-5)
    np.testing.assert_allclose(table.attrs["none"], none - shift, atol=1e-5)
    # Noise is worth least.
    assert table["shapley"].idxmin() == 2


def test_without_any_modality_the_answer_is_the_class_prior(trained):
    model, x, y = trained
    once = np.array([0, 0, 0, 1])
    rows = {name: v[:4] for name, v in x.items()}
    table = modality_contributions(model, rows, once, "log_loss")
    np.testing.assert_allclose(table.attrs["none"], np.log(1 / 3), atol=1e-3)


def test_order_of_the_dict_does_not_matter(trained):
    model, x, y = trained
    expected = modality_contributions(model, x, y)
    turned = modality_contributions(model, dict(reversed(x.items())), y)
    assert turned.equals(expected)


def test_what_is_missing_stays_missing(trained):
    model, x, y = trained
    mask = np.ones((48, 3), "float32")
    mask[::2, 0] = 0
    garbage = {**x, "a": x["a"].copy(), "modality_mask": mask}
    garbage["a"][::2] = np.nan
    table = modality_contributions(model, garbage, y)
    alone = model.predict(
        {**garbage, "modality_mask": mask * np.array([1, 0, 0], "float32")},
        verbose=0,
    )["probabilities"]
    np.testing.assert_allclose(
        table["alone"][0], (alone.argmax(axis=1) == y).mean()
    )
    np.testing.assert_allclose(
        table["shapley"].sum(),
        table.attrs["all"] - table.attrs["none"],
        atol=1e-6,
    )


def many(count):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    x = {
        f"m{i}": (
            (2 * y - 1) * 0.3 * i + rng.normal(size=200) if i else np.zeros(200)
        )[:, None].astype("float32")
        for i in range(count)
    }
    return x, y


@pytest.mark.one_backend
def test_beyond_six_modalities_sampled_values_still_add_up():
    x, y = many(7)
    model = Evidence(x)
    table = modality_contributions(model, x, y, "log_loss", batch_size=200)
    assert not table.attrs["exact"]
    np.testing.assert_allclose(
        table["shapley"].sum(),
        table.attrs["all"] - table.attrs["none"],
        atol=1e-5,
    )
    # The first modality holds nothing, the last one most.
    assert abs(table["shapley"][0]) < 1e-6
    assert table["leave_one_out"][0] == 0.0
    assert table["shapley"].idxmax() == 6
    rest = {**x, "modality_mask": np.tile([1.0] * 6 + [0.0], (200, 1))}
    p = model.predict(rest, verbose=0)["probabilities"]
    np.testing.assert_allclose(
        table["leave_one_out"][6],
        table.attrs["all"] - np.log(p[np.arange(200), y]).mean(),
        atol=1e-5,
    )
    again = modality_contributions(model, x, y, "log_loss", batch_size=200)
    assert again.equals(table)


def test_one_program_serves_all_coalitions():
    x, y = many(3)
    model = Evidence(x)
    model.predict({**x, "modality_mask": np.ones((200, 3), "float32")})
    before, model.predicted = model.traced, 0
    modality_contributions(model, x, y)
    assert model.predicted == 8
    if keras.config.backend() != "torch":
        assert model.traced - before <= 1


@pytest.mark.one_backend
def test_leaving_one_out_alone_takes_fewer_predictions():
    x, y = many(5)
    model = Evidence(x)
    both = modality_contributions(model, x, y)
    assert model.predicted == 32
    model.predicted = 0
    table = modality_contributions(model, x, y, method="leave_one_out")
    assert model.predicted == 12
    assert table.equals(both.drop(columns="shapley"))
    table = modality_contributions(model, x, y, method="shapley")
    assert table.equals(both.drop(columns="leave_one_out"))


def test_one_modality_has_all_the_value():
    x = {"a": X["a"]}
    table = modality_contributions(Evidence("a"), x, np.eye(2)[Y])
    np.testing.assert_allclose(table["shapley"], [2 / 6], atol=1e-6)
    np.testing.assert_allclose(table["leave_one_out"], [2 / 6])


def test_integers_have_no_mean():
    x = {"a": X["a"], "b": X["b"].astype("int32")}
    with pytest.raises(ValueError, match="'b' of dtype int32"):
        modality_contributions(plain_model(), x, Y)
    table = modality_contributions(plain_model(), x, Y, baseline="zeros")
    assert table.attrs["none"] == 2 / 6


@pytest.mark.parametrize(
    "change, text",
    [
        ({"measure": "auc"}, "measure='auc'"),
        ({"method": "sampling"}, "method='sampling'"),
        ({"x": [1, 2]}, "`x` must be a non-empty dict .* Received: list"),
        ({"x": {}}, "non-empty"),
        ({"x": {"a": X["a"], "b": X["b"][:3]}}, "same number of samples"),
        ({"x": {"a": [1.0], "b": [2.0]}}, "same number of samples"),
        ({"x": {**X, "modality_mask": np.ones((6, 3))}}, r"shape \(6, 2\)"),
        ({"y": Y[:3]}, "3 labels for 6 samples"),
        ({"y": Y + 1}, r"in \[0, 2\)"),
        ({"y": Y * 0.5}, "y.dtype=float64"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(change, text):
    with pytest.raises(ValueError, match=text):
        modality_contributions(Evidence(), **{"x": X, "y": Y, **change})


@pytest.mark.parametrize(
    "baseline, text",
    [
        ("median", "baseline='median'"),
        ({"a": np.zeros(1)}, r"\['a', 'b'\]. Received: \['a'\]"),
        ({"a": np.zeros(2), "b": np.zeros(1)}, r"\['a'\]` .*shape=\(2,\)"),
    ],
)
def test_bad_baseline_is_refused_in_one_sentence(baseline, text):
    with pytest.raises(ValueError, match=text):
        modality_contributions(plain_model(), X, Y, baseline=baseline)


def test_a_wrong_modality_is_refused_by_the_model(trained):
    model, x, y = trained
    with pytest.raises(ValueError, match="missing: ."):
        modality_contributions(model, {"a": x["a"], "z": x["b"]}, y)


def test_predictions_with_nan_are_refused():
    x = {"a": X["a"].copy(), "b": X["b"]}
    x["a"][2] = np.nan
    with pytest.raises(ValueError, match=r"1 of 6 rows .*\[2\]"):
        modality_contributions(plain_model(), x, Y, baseline="zeros")


def test_a_mask_for_a_model_that_ignores_it_is_refused():
    x = {**X, "modality_mask": np.ones((6, 2), "float32")}
    with pytest.raises(ValueError, match="must have no 'modality_mask'"):
        modality_contributions(plain_model(), x, Y)
