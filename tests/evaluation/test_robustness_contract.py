"""What `evaluate_robustness` promises beside the scores themselves."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import TokenReplacement
from keras_mmrel.evaluation import evaluate_robustness
from tests.helpers import vectors

MASK = "modality_mask"
SHAPES = {"a": (6,), "b": (4,)}
COMPILED = keras.config.backend() != "torch"
SCORES = (
    "accuracy", "f1_macro", "f1_weighted", "nll", "ece", "brier", "aurc",
    "excess_aurc",
)  # fmt: skip


def evaluate(model, x, y, corruptions=("gaussian_one",), *args, **kwargs):
    return evaluate_robustness(
        model, x, y, corruptions, *args, **{"verbose": 0, **kwargs}
    )


def logits_of(x):
    return 3.0 * x["a"][:, :3] - 2.0 * x["b"][:, :3]


class Counting(keras.layers.Layer):
    """Counts how often Python runs through it."""

    runs = 0

    def call(self, inputs):
        type(self).runs += 1
        return ops.cast(inputs, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


def state_of(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [ops.convert_to_numpy(v).copy() for v in variables]


def test_all_test_sets_are_predicted_by_one_program():
    x, y = vectors(48, SHAPES)
    model = keras_mmrel.LateFusion(
        {"a": keras.Sequential([keras.Input((6,)), Counting()]), "b": (4,)}, 3
    )
    Counting.runs = 0
    evaluate(model, x, y, [], batch_size=16)
    first, function = Counting.runs, model.predict_function
    assert first > 0
    Counting.runs = 0
    chosen = ["gaussian_one", "missing", "missing_unannounced", "unaligned"]
    report = evaluate(model, x, y, chosen, [0.5], seeds=2, batch_size=16)
    assert len(report.scores) == 9
    assert model.predict_function is function
    # A compiled program runs Python only while it is traced.
    assert Counting.runs == (0 if COMPILED else 3 * len(report.scores))


def test_integers_are_predicted_by_the_same_program_as_their_corruption():
    rng = np.random.default_rng(0)
    x = {"text": rng.integers(2, 30, (32, 7)), "b": rng.random((32, 4))}
    inputs = {
        "text": keras.Input((7,), name="text", dtype="int32"),
        "b": keras.Input((4,), name="b"),
    }
    words = keras.layers.Embedding(30, 5)(Counting()(inputs["text"]))
    pooled = keras.layers.GlobalAveragePooling1D()(words)
    joined = keras.layers.Concatenate()([pooled, inputs["b"]])
    model = keras.Model(inputs, keras.layers.Dense(2)(joined))
    y = np.arange(32) % 2
    evaluate(model, x, y, [])
    Counting.runs = 0
    report = evaluate(model, x, y, [TokenReplacement(0.5, "text")])
    assert Counting.runs == (0 if COMPILED else 2)
    assert report.scores["nll"][0] != report.scores["nll"][1]
    exact = model.predict(
        {"text": x["text"].astype("int32"), "b": x["b"]}, verbose=0
    )
    accuracy = (exact.argmax(axis=1) == y).mean()
    assert report.scores["accuracy"][0] == accuracy


def test_integers_reach_the_model_as_floats_clean_and_corrupted():
    x, y = vectors(30, SHAPES)
    seen = []

    def model(x):
        seen.append({name: str(values.dtype) for name, values in x.items()})
        return logits_of(x)

    evaluate(model, {**x, "a": (9 * x["a"]).astype("uint8")}, y, ["missing"])
    assert seen == 3 * [dict.fromkeys(["a", "b", MASK], "float32")]


def test_model_is_left_as_it_was():
    x, y = vectors(48, SHAPES)
    model = keras_mmrel.LateFusion(SHAPES, 3)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x, y, batch_size=16, verbose=0)
    before, optimizer = state_of(model), model.optimizer
    config = model.get_compile_config()
    train_function = model.train_function
    evaluate(model, x, y, ["gaussian_one", "missing"], [0.5])
    assert model.compiled and model.optimizer is optimizer
    assert model.get_compile_config() == config
    assert model.train_function is train_function
    after = state_of(model)
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    history = model.fit(x, y, batch_size=16, verbose=0).history
    assert np.isfinite(history["loss"][0])


def test_model_that_was_never_compiled_is_not_compiled():
    x, y = vectors(48, SHAPES)
    model = keras_mmrel.LateFusion(SHAPES, 3)
    evaluate(model, x, y, ["missing"])
    assert not model.compiled


def test_batch_size_does_not_change_the_scores():
    x, y = vectors(50, SHAPES)
    model = keras_mmrel.LateFusion(SHAPES, 3)
    large = evaluate(model, x, y, ["missing"]).scores["nll"]
    small = evaluate(model, x, y, ["missing"], batch_size=25).scores["nll"]
    np.testing.assert_allclose(small, large, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_invalid_predictions_are_named_and_not_averaged_away(bad):
    x, y = vectors(30, SHAPES)
    clean = x["a"].copy()
    draws = []

    def model(x):
        logits = logits_of(x)
        if (x["a"] != clean).any():
            draws.append(1)
            # In the first seed of the corruption only.
            logits[:4, 1] = bad if len(draws) == 1 else 0
        return {"logits": logits, "confidence": np.ones((30, 2))}

    text = (
        r"under 'noise' at severity 0.5 \(seed 0\) are NaN or infinite for 4 "
        "of 30 samples"
    )
    with pytest.warns(UserWarning, match=text) as caught:
        report = evaluate(model, x, y, {"noise": GaussianNoise(0.5)}, seeds=2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert report.scores["invalid"].tolist() == [0, 4, 0]
    scores = report.scores[list(SCORES)]
    assert scores.iloc[1].isna().all()
    assert scores.iloc[[0, 2]].notna().all(axis=None)
    summary = report.summary()
    assert summary["invalid"].tolist() == [0, 2]
    assert summary[list(SCORES)].iloc[1].isna().all()
    assert summary["confidence/a"].tolist() == [1, 1]
    assert set(report.curves["seed"][report.curves["severity"] > 0]) == {1}


def test_confidence_of_nan_makes_its_scores_nan():
    x, y = vectors(30, SHAPES)

    def model(x):
        confidence = np.full((30, 2), 0.5)
        confidence[3, 1] = np.nan
        return {"logits": logits_of(x), "confidence": confidence}

    row = evaluate(model, x, y, ["gaussian_one"], [1.0]).scores.iloc[1]
    assert row["confidence/a"] == 0.5
    assert np.isnan(row["confidence/b"])
    assert np.isnan(row["corrupted_auroc"])
    assert row["invalid"] == 0 and np.isfinite(row["nll"])


def test_labels_without_a_class_are_announced():
    x, y = vectors(30, SHAPES)
    keep = y != 1
    x = {name: values[keep] for name, values in x.items()}
    with pytest.warns(UserWarning, match=r"no sample of class \[1\]") as caught:
        evaluate(logits_of, x, y[keep])
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"no sample of class \[1\]"):
        report = evaluate(
            lambda x: logits_of(x)[:, :2], x, np.zeros(keep.sum(), int)
        )
    assert report.scores["auroc"].isna().all()
    assert report.scores["accuracy"].notna().all()


@pytest.mark.parametrize(
    "corruption",
    [GaussianNoise(1.0, "c"), GaussianNoise(0.0, ["a", "c"])],
)
def test_unknown_modality_is_refused_before_any_prediction(corruption):
    x, y = vectors(30, SHAPES)
    calls = []
    with pytest.raises(ValueError, match=r"\['a', 'b'\].*unknown: \['c'\]"):
        evaluate(calls.append, x, y, ["missing", corruption])
    assert not calls


def test_progress_bar_is_printed_on_demand_only(capsys):
    x, y = vectors(30, SHAPES)
    evaluate(logits_of, x, y, ["missing"], verbose=0)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")
    evaluate(logits_of, x, y, ["missing"], verbose=1)
    assert "3/3" in capsys.readouterr().out
    evaluate_robustness(logits_of, x, y, ["missing"])
    assert "3/3" in capsys.readouterr().out


def test_no_corruption_leaves_the_clean_row():
    x, y = vectors(30, SHAPES)
    assert evaluate(logits_of, x, y, []).scores["corruption"].tolist() == [
        "clean"
    ]


X, Y = vectors(30, SHAPES)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"severities": ["strong"]}, "a finite, non-negative.*'strong'"),
        ({"severities": [-1.0]}, "non-negative number.*-1.0"),
        ({"severities": []}, "at least one number"),
        ({"corruptions": "fog"}, "`corruptions` must name protocols.*'fog'"),
        ({"seeds": 0}, "`seeds` must be a positive integer.*seeds=0"),
        ({"seeds": True}, "`seeds` must be .*seeds=True"),
        ({"seeds": []}, r"`seeds` must be .*seeds=\[\]"),
        ({"seeds": [1, 1]}, r"different seeds. Received: seeds=\[1, 1\]"),
        ({"seeds": [-1]}, "`seed` must be a non-negative integer.*-1"),
        ({"seeds": ["a"]}, "`seed` must be a non-negative integer.*'a'"),
        ({"seeds": "12"}, "`seeds` must be a positive integer.*'12'"),
        ({"bins": 0}, "`bins` must be a positive integer.*bins=0"),
        ({"bins": 2.5}, "`bins` must be a positive integer.*bins=2.5"),
        ({"batch_size": -1}, "`batch_size` must be a positive integer.*-1"),
        ({"batch_size": None}, "`batch_size` must be a positive integer"),
        ({"output": "softmax"}, "`output` must be one of.*'softmax'"),
        ({"x": X["a"]}, "`x` must be a non-empty dict.*ndarray"),
        ({"x": {}}, "`x` must be a non-empty dict"),
        ({"x": {MASK: np.ones((30, 2))}}, "`x` must be a non-empty dict"),
        ({"x": {**X, "b": X["b"][:9]}}, "same positive number.*'b': 9"),
        ({"x": {k: v[:0] for k, v in X.items()}}, "same positive number"),
        ({"x": {**X, "b": 3.0}}, r"arrays of numbers.*'b': 'shape=\(\)"),
        ({"x": {**X, "b": None}}, r"arrays of numbers.*'b': 'shape=\(\)"),
        ({"x": {**X, "b": [["x"]] * 30}}, "arrays of numbers.*dtype=<U1"),
        ({"x": {**X, "b": X["b"] * np.nan}}, "'b' must be finite.*120 NaN"),
        ({"x": {**X, MASK: np.ones((30, 3))}}, r"have the shape \(30, 2\)"),
        ({"y": Y[:7]}, "7 labels for 30 samples"),
        ({"y": Y + 1}, r"in \[0, 3\).*from 1 to 3"),
        ({"y": Y / 2}, "integer class numbers.*float64"),
        ({"y": np.eye(4)[Y]}, r"3 columns.*\(30, 4\)"),
        ({"y": None}, "one label a sample"),
        ({"model": 3}, "`model` must be a Keras model or a function.*model=3"),
        ({"model": lambda x: None}, r"\(samples, classes\)"),
        ({"model": lambda x: X["a"][:, 0]}, r"shape=\(30,\)"),
        ({"model": lambda x: X["a"][:, :1]}, r"shape=\(30, 1\)"),
        ({"model": lambda x: X["a"][:9]}, "each of the 30 samples.*9 rows"),
        ({"model": lambda x: {"scores": Y}}, r"a dict with \['scores'\]"),
        (
            {"output": "probabilities"},
            "add up to 1 in every row; pass `output='logits'`",
        ),
        (
            {"model": lambda x: {"logits": X["a"]}, "output": "probabilities"},
            "a dict with 'probabilities'",
        ),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(change, sentence):
    arguments = {"model": logits_of, "x": X, "y": Y, **change}
    with pytest.raises(ValueError, match=sentence):
        evaluate(**arguments)


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_modalities_that_are_not_the_models_are_refused(names):
    x = {name: X.get(name, X["a"]) for name in names}
    model = keras_mmrel.LateFusion(SHAPES, 3)
    with pytest.raises(ValueError, match=r"missing: .* unknown: "):
        evaluate(model, x, Y, ["missing"])
