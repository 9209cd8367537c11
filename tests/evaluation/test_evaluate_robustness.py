import keras
import numpy as np
import pytest
from keras import ops
from sklearn import metrics as sk

import keras_mmrel
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import MissingModality
from keras_mmrel.evaluation import evaluate_robustness
from tests.helpers import vectors

MASK = "modality_mask"
SHAPES = {"a": (6,), "b": (4,)}


def data(samples=90, classes=3, noise=0.4):
    """Two modalities, hard enough for errors at every confidence."""
    x, y = vectors(samples, SHAPES, classes)
    rng = np.random.default_rng(5)
    x = {k: v + noise * rng.normal(size=v.shape) for k, v in x.items()}
    return {k: v.astype("float32") for k, v in x.items()}, y


def logits_of(x, classes=3):
    """A model made by hand."""
    a, b = np.asarray(x["a"]), np.asarray(x["b"])
    return 3.0 * a[:, :classes] - 2.0 * b[:, :classes]


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def evaluate(model, x, y, corruptions=("gaussian_one",), *args, **kwargs):
    return evaluate_robustness(
        model, x, y, corruptions, *args, verbose=0, **kwargs
    )


def plain_model(mask=False, activation=None, as_list=False):
    """A Keras model that knows nothing of the library."""
    inputs = {k: keras.Input(s, name=k) for k, s in SHAPES.items()}
    if mask:
        inputs[MASK] = keras.Input((2,), name=MASK)
    joined = keras.layers.Concatenate()(list(inputs.values()))
    outputs = keras.layers.Dense(3, activation=activation)(joined)
    return keras.Model(list(inputs.values()) if as_list else inputs, outputs)


def same(first, second, columns=None):
    """Whether two tables agree; NaN equals NaN."""
    columns = columns or list(first.columns)
    return first[columns].equals(second[columns])


def test_scores_are_those_of_scikit_learn_and_numpy():
    x, y = data()
    row = evaluate(logits_of, x, y, []).scores.iloc[0]
    p = softmax(logits_of(x).astype("float64"))
    guess = p.argmax(axis=1)
    right = guess == y
    assert 0.3 < right.mean() < 0.9
    np.testing.assert_allclose(row["accuracy"], sk.accuracy_score(y, guess))
    for average in ("macro", "weighted"):
        expected = sk.f1_score(y, guess, average=average)
        np.testing.assert_allclose(row[f"f1_{average}"], expected)
    np.testing.assert_allclose(row["nll"], sk.log_loss(y, p), rtol=1e-6)
    brier = ((p - np.eye(3)[y]) ** 2).sum(axis=1).mean()
    np.testing.assert_allclose(row["brier"], brier)
    order = np.argsort(-p.max(axis=1))
    risks = np.cumsum(~right[order]) / np.arange(1, 91)
    np.testing.assert_allclose(row["aurc"], risks.mean())
    best = np.cumsum(np.sort(~right)) / np.arange(1, 91)
    np.testing.assert_allclose(row["excess_aurc"], (risks - best).mean())
    assert np.isnan(row["auroc"])
    assert (row["invalid"], row["samples"]) == (0, 90)


def test_area_under_the_roc_curve_is_there_for_two_classes():
    x, y = data(classes=2)
    row = evaluate(lambda x: logits_of(x, 2), x, y, []).scores.iloc[0]
    p = softmax(logits_of(x, 2).astype("float64"))[:, 1]
    np.testing.assert_allclose(row["auroc"], sk.roc_auc_score(y, p))


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("bins", [4, 15])
def test_scores_agree_with_the_metrics_of_the_library(bins):
    x, y = data(300)
    report = evaluate(logits_of, x, y, severities=[1.0], bins=bins)
    metrics = keras_mmrel.metrics
    for row, inputs in (
        (report.scores.iloc[0], x),
        (report.scores.iloc[1], GaussianNoise(1.0, "one")(x, seed=0)),
    ):
        for name, metric, atol in (
            ("ece", metrics.ExpectedCalibrationError(bins), 1e-5),
            ("brier", metrics.BrierScore(), 1e-5),
            # Confidences on a grid: neighbours may count as tied.
            ("aurc", metrics.AURC(), 2e-3),
            ("excess_aurc", metrics.ExcessAURC(), 2e-3),
        ):
            metric.update_state(y, logits_of(inputs))
            assert abs(row[name] - float(metric.result())) < atol, name


def test_reliability_points_add_up_to_the_calibration_error():
    x, y = data()
    report = evaluate(logits_of, x, y, severities=[1.0, 2.0], seeds=2)
    keys = ["corruption", "severity", "seed"]
    curves = report.curves.groupby(["curve", *keys], sort=False)
    assert len(curves) == 2 * len(report.scores)
    for _, row in report.scores.iterrows():
        points = curves.get_group(("reliability", *row[keys]))
        assert points["samples"].sum() == 90
        gaps = (points["x"] - points["y"]).abs() * points["samples"]
        np.testing.assert_allclose(gaps.sum() / 90, row["ece"])
        last = curves.get_group(("risk_coverage", *row[keys])).iloc[-1]
        assert (last["x"], last["samples"]) == (1.0, 90)
        np.testing.assert_allclose(last["y"], 1 - row["accuracy"])


def test_probability_on_a_border_belongs_to_the_bin_below_it():
    p = np.array([[0.75, 0.25], [0.7, 0.3], [0.8, 0.2]])
    x, y = {"a": np.ones((3, 1))}, [0, 0, 1]
    curves = evaluate(lambda x: p, x, y, [], bins=4).curves
    points = curves[curves["curve"] == "reliability"]
    assert points["samples"].tolist() == [2, 1]
    np.testing.assert_allclose(points["x"], [0.725, 0.8])
    assert points["y"].tolist() == [1, 0]


def test_tied_confidences_are_resolved_in_expectation():
    y = np.array([0, 0, 1, 1])
    p = np.tile([0.7, 0.3], (4, 1))
    row = evaluate(lambda x: p, {"a": np.ones((4, 1))}, y, []).scores.iloc[0]
    np.testing.assert_allclose(row["aurc"], 0.5)


def test_rows_are_clean_data_and_every_corruption_severity_and_seed():
    x, y = data()
    report = evaluate(
        logits_of,
        x,
        y,
        {"m": "missing", "g": GaussianNoise(0.5)},
        {"m": [0.2, 0.4, 0.6]},
        seeds=[3, 8],
    )
    table = report.scores[["corruption", "severity", "seed"]]
    expected = [("clean", 0.0, 3)]
    expected += [("m", s, seed) for s in (0.2, 0.4, 0.6) for seed in (3, 8)]
    expected += [("g", 0.5, seed) for seed in (3, 8)]
    assert list(table.itertuples(index=False, name=None)) == expected
    assert report.info["modalities"] == ["a", "b"]
    assert (report.info["classes"], report.info["samples"]) == (3, 90)
    assert [p["name"] for p in report.info["protocols"]] == ["m", "g"]


def test_a_row_is_what_the_model_answers_to_the_corrupted_data():
    x, y = data()
    report = evaluate(logits_of, x, y, [GaussianNoise(1.0)], seeds=[4, 7])
    for seed, accuracy in zip((4, 7), report.scores["accuracy"][1:], strict=1):
        logits = logits_of(GaussianNoise(1.0)(x, seed=seed))
        assert accuracy == (logits.argmax(axis=1) == y).mean()


def test_seeds_change_the_noise_and_nothing_else():
    x, y = data()
    state = np.random.get_state()[1].copy()
    both = evaluate(logits_of, x, y, ["gaussian_one"], seeds=[4, 7]).scores
    again = evaluate(logits_of, x, y, ["gaussian_one"], seeds=[7]).scores
    seven = both[both["seed"] == 7].reset_index(drop=True)
    four = both[both["seed"] == 4].reset_index(drop=True)
    assert same(seven, again[1:].reset_index(drop=True))
    assert not same(seven, four[1:].reset_index(drop=True), ["nll"])
    assert same(four[:1], again[:1], ["corruption", "accuracy", "nll"])
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_inputs_are_left_alone_and_tensors_and_one_hot_labels_are_taken():
    x, y = data()
    copies = {name: values.copy() for name, values in x.items()}
    expected = evaluate(logits_of, x, y, ["missing", "gaussian_one"]).scores
    assert all(np.array_equal(x[name], copies[name]) for name in x)
    tensors = {k: ops.convert_to_tensor(v) for k, v in x.items()}
    received = evaluate(
        logits_of, tensors, np.eye(3)[y], ["missing", "gaussian_one"]
    ).scores
    assert same(received, expected)


def test_logits_probabilities_and_dicts_of_them_give_the_same_scores():
    x, y = data()
    expected = evaluate(logits_of, x, y, severities=[0.5]).scores
    for model, output in (
        (lambda x: softmax(logits_of(x)), "auto"),
        (lambda x: softmax(logits_of(x)), "probabilities"),
        (lambda x: {"probabilities": softmax(logits_of(x))}, "auto"),
        (lambda x: {"logits": logits_of(x), "probabilities": 0}, "auto"),
        (lambda x: ops.convert_to_tensor(logits_of(x)), "logits"),
    ):
        received = evaluate(model, x, y, severities=[0.5], output=output).scores
        np.testing.assert_allclose(
            received.drop(columns="corruption").to_numpy("float64"),
            expected.drop(columns="corruption").to_numpy("float64"),
            rtol=1e-5,
            atol=1e-6,
        )


@pytest.mark.parametrize("announce", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_what_leaves_the_range_of_these_data_is_not_called_inside(
    announce, known
):
    x, y = data()
    # No zero among them, but maybe among the training samples.
    x["a"] = x["a"] - x["a"].min() + 5
    training = {"a": np.zeros((1, 6)), "b": x["b"]} if known else None
    missing = {"m": MissingModality(1.0, "a", announce=announce)}
    table = evaluate(logits_of, x, y, missing, training=training).scores
    # What is announced as missing is read by nobody.
    assert table["in_range"].tolist() == [True, announce or known]


def test_training_data_of_another_shape_are_refused():
    x, y = data()
    with pytest.raises(ValueError, match="`training` must hold 'a' in the"):
        evaluate(logits_of, x, y, training={"a": np.zeros((4, 2))})


def test_what_the_model_returns_is_settled_on_the_clean_data():
    # Logits which add up to 1 under the corruption by accident.
    x, y = data()
    missing = {"m": MissingModality(1.0, "all", announce=False)}

    def model(x):
        return logits_of(x) if x["a"].any() else np.tile([0.5, 0.5, 0], (90, 1))

    row = evaluate(model, x, y, missing).scores.iloc[1]
    p = softmax(np.array([[0.5, 0.5, 0.0]]))[0]
    np.testing.assert_allclose(row["nll"], -np.log(p)[y].mean())


def test_probability_of_zero_costs_a_finite_amount():
    x, y, p = {"a": np.ones((2, 1))}, [1, 0], np.eye(2)
    row = evaluate(lambda x: p, x, y, []).scores
    np.testing.assert_allclose(row["nll"], -np.log(1e-12))
    row = evaluate(lambda x: p * 1e4, x, y, []).scores
    np.testing.assert_allclose(row["nll"], 1e4)


def test_low_precision_probabilities_are_no_logits():
    x, y = data()

    def model(x):
        logits = ops.cast(ops.convert_to_tensor(logits_of(x)), "bfloat16")
        return ops.softmax(logits)

    exact = evaluate(logits_of, x, y, severities=[0.5]).scores
    coarse = evaluate(model, x, y, severities=[0.5]).scores
    np.testing.assert_allclose(coarse["nll"], exact["nll"], rtol=0.02)


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("as_list", [False, True])
def test_plain_keras_model_is_evaluated(activation, mask, as_list):
    x, y = data()
    model = plain_model(mask, activation, as_list)
    report = evaluate(model, x, y, {"m": MissingModality(1.0, "a")})
    # The mask takes part in this model, so it must have been passed on.
    hidden = {**x, "a": np.zeros_like(x["a"])}
    masks = np.ones((90, 2)), np.tile([0.0, 1.0], (90, 1))
    for row, inputs, present in zip(
        report.scores["accuracy"], (x, hidden), masks, strict=True
    ):
        values = [*inputs.values(), present] if mask else [*inputs.values()]
        joined = np.concatenate(values, axis=1)
        kernel, _ = (ops.convert_to_numpy(w) for w in model.weights)
        assert row == ((joined @ kernel).argmax(axis=1) == y).mean()


@pytest.mark.slow_on("jax", "tensorflow")
def test_library_model_as_a_function_gives_the_scores_of_the_model():
    x, y = data()
    model = keras_mmrel.LateFusion(SHAPES, 3)
    expected = evaluate(model, x, y, ["missing"]).scores
    # Outputs that carry gradients.
    received = evaluate(lambda x: dict(model(x)), x, y, ["missing"]).scores
    np.testing.assert_allclose(
        received["nll"], expected["nll"], rtol=0, atol=1e-4
    )
    assert list(received.columns) == list(expected.columns)


@pytest.mark.slow_on("jax", "tensorflow")
def test_means_of_confidence_and_depth_are_those_of_the_outputs():
    x, y = data()
    model = keras_mmrel.QADMNet(SHAPES, 3, max_depth=2, hidden_dim=8)
    report = evaluate(model, x, y, ["gaussian_one"], [1.0])
    corrupted = GaussianNoise(1.0, "one")(x)
    for inputs, (_, row) in zip(
        (x, corrupted), report.scores.iterrows(), strict=True
    ):
        out = model.predict(inputs, verbose=0)
        for column, name in enumerate("ab"):
            np.testing.assert_allclose(
                row[f"confidence/{name}"],
                out["confidence"][:, column].mean(),
                atol=1e-5,
            )
        np.testing.assert_allclose(row["depth"], out["depth"].mean(), atol=0.02)


# A score, and the output by which it looks for what is corrupted.
DETECTION = [
    ("corrupted_auroc", "confidence"),
    ("quality_auroc", "modality_quality"),
]


@pytest.mark.parametrize(("score", "output"), DETECTION)
def test_detection_of_the_corrupted_modality_is_scored(score, output):
    x, y = data()
    noise = GaussianNoise(1.0, "one")
    clean = x["a"].copy()

    def model(x):
        hit = (x["a"] != clean).any(axis=1)
        believed = np.stack([~hit, hit], axis=1).astype("float32")
        return {"logits": logits_of(x), output: believed}

    scores = evaluate(model, x, y, [noise], [0.1, 1.0], seeds=[2, 5]).scores
    assert np.isnan(scores[score][0])
    assert (scores[score][1:] == 1).all()
    assert not {s for s, _ in DETECTION if s != score} & {*scores}

    def sleepy(x):
        return {"logits": logits_of(x), output: np.ones((90, 2))}

    scores = evaluate(sleepy, x, y, {"one": noise}).scores
    assert scores[score][1] == 0.5


def test_what_is_announced_or_everywhere_is_nothing_to_detect():
    x, y = data()

    def model(x):
        return {"logits": logits_of(x), "confidence": np.ones((90, 2))}

    table = evaluate(
        model, x, y, ["missing", "missing_unannounced", "gaussian_all"]
    ).scores.set_index("corruption")
    assert table.loc["missing", "corrupted_auroc"].isna().all()
    assert table.loc["gaussian_all", "corrupted_auroc"].isna().all()
    assert (table.loc["missing_unannounced", "corrupted_auroc"] == 0.5).all()


def test_a_modality_that_x_lacks_is_no_false_alarm():
    x, y = data()
    mask = np.ones((90, 2), "float32")
    mask[::2, 0] = 0
    noise = GaussianNoise(1.0, "b")

    def model(x):
        # Least sure of what is not there, then of what is corrupted.
        confidence = np.where(x[MASK] == 0, 0.0, [[0.9, 0.3]])
        return {"logits": logits_of(x), "confidence": confidence}

    scores = evaluate(model, {**x, MASK: mask}, y, [noise]).scores
    assert scores["corrupted_auroc"][1] == 1
    np.testing.assert_allclose(scores["confidence/a"][0], 0.45)


def test_order_of_the_modalities_does_not_matter_for_a_library_model():
    x, y = data()
    model = keras_mmrel.LateFusion(SHAPES, 3)
    corruptions = ["gaussian_one", "missing"]
    expected = evaluate(model, x, y, corruptions)
    turned = evaluate(model, dict(reversed(x.items())), y, corruptions)
    assert same(turned.scores, expected.scores)
    assert turned.info["modalities"] == ["a", "b"]


def test_mask_in_x_is_kept_under_every_corruption():
    x, y = data()
    mask = np.ones((90, 2), "float32")
    mask[::3, 0] = 0
    seen = []

    def model(x):
        seen.append(x[MASK].copy())
        return logits_of({k: np.nan_to_num(v) for k, v in x.items()})

    hidden = {k: v.copy() for k, v in x.items()}
    hidden["a"][::3] = np.nan
    evaluate(
        model, {**hidden, MASK: mask}, y, ["gaussian_all", "missing"], [1.0]
    )
    np.testing.assert_array_equal(seen[0], mask)
    np.testing.assert_array_equal(seen[1], mask)
    assert (seen[2] <= mask).all() and (seen[2].sum(axis=1) <= 1).all()
    np.testing.assert_array_equal(mask.sum(), 150)


def test_mask_beside_modalities_in_another_order_is_refused():
    x, y = data()
    model = keras_mmrel.LateFusion(SHAPES, 3)
    turned = {**dict(reversed(x.items())), MASK: np.ones((90, 2), "float32")}
    with pytest.raises(ValueError, match="in the order of its columns"):
        evaluate(model, turned, y)
