"""What an evaluation cannot take is refused in one sentence."""

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel import evaluation
from keras_mmrel.corruptions import Corruption
from keras_mmrel.evaluation import Predictions
from keras_mmrel.evaluation import Score
from keras_mmrel.evaluation import SelectiveRule
from keras_mmrel.evaluation import TemperatureScaling

pytestmark = pytest.mark.one_backend

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(30, 3))
P = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
Y = np.arange(30) % 3
X = {
    "a": RNG.normal(size=(30, 4)).astype("float32"),
    "b": RNG.normal(size=(30, 2)).astype("float32"),
}


@pytest.fixture(scope="module")
def model():
    return keras_mmrel.LateFusion({"a": (4,), "b": (2,)}, 3)


@pytest.fixture(scope="module")
def explanation():
    model = keras_mmrel.MICINet({"a": (4,), "b": (2,)}, 3)
    return model.explain(X)


def refused(call, text):
    with pytest.raises(ValueError, match=text) as error:
        call()
    message = str(error.value)
    assert "Received: " in message
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((LOGITS, Y), "not negative and sum to 1"),
        ((2 * P, Y), "not negative and sum to 1"),
        ((P[:, 0], Y), r"shape=\(30,\)"),
        ((P[:, :1], Y), r"shape=\(30, 1\)"),
        ((P, Y + 1), r"class numbers in \[0, 3\)"),
        ((P, Y[:5]), "5 labels for 30 samples"),
        ((None, Y), "`probabilities` must hold numbers"),
        (("a", Y), "`probabilities` must hold numbers"),
        ((P, "a"), "one label a sample"),
    ],
)
def test_predictions_are_probabilities_and_labels(arguments, text):
    refused(lambda: Predictions(*arguments), text)


def test_predictions_may_be_invalid_and_labels_one_hot():
    p = P.copy()
    p[3] = np.nan
    predictions = Predictions(p, np.eye(3)[Y])
    np.testing.assert_array_equal(predictions.labels, Y)
    assert predictions.valid.sum() == 29
    taken = predictions.take(np.arange(5))
    np.testing.assert_array_equal(taken.labels, Y[:5])
    refused(lambda: predictions.has("luck"), "`need` must be one of")
    for name in ("confidence", "depth", "corrupted", "present"):
        refused(
            lambda name=name: Predictions(P, Y, **{name: np.ones((5, 2))}),
            f"`{name}` must have one row for each of the 30 samples",
        )
    refused(lambda: Predictions(P, Y, bins="ten"), "bins='ten'")


@pytest.mark.parametrize(
    "change, text",
    [
        ({"description": 3}, "`description` of 's' must be a string"),
        ({"percent": "yes"}, "`percent` must be True or False"),
        ({"per_modality": 1}, "`per_modality` must be True or False"),
        ({"per_sample": "no"}, "`per_sample` must be True or False"),
        (
            {"per_sample": True, "per_modality": True},
            "`per_sample` of 's' must be False",
        ),
        ({"shown": "no"}, "`shown` must be True or False"),
        ({"needs": 3}, "`needs` of 's' must be a sequence"),
        ({"higher_is_better": 1}, "must be True, False or None"),
        ({"higher_is_better": "up"}, "must be True, False or None"),
    ],
)
def test_a_score_is_made_of_what_it_says(change, text):
    arguments = {"name": "s", "function": len, "higher_is_better": True}
    refused(lambda: Score(**{**arguments, **change}), text)


@pytest.mark.parametrize("value", [None, "a", np.ones(3), [1.0]])
def test_a_score_that_is_no_number_is_named(value, model):
    score = Score("s", lambda predictions: value, True)
    refused(
        lambda: evaluation.evaluate_robustness(
            model, X, Y, ["missing"], scores=[score], verbose=0
        ),
        "`function` of 's' must return a number",
    )


@pytest.mark.parametrize(
    "change, text",
    [
        ({"model": None}, "`model` must be a Keras model or a function"),
        ({"model": lambda x: "a"}, "What `model` returns must hold numbers"),
        ({"model": lambda x: P.astype(complex)}, "must hold numbers.*complex"),
        ({"x": X["a"]}, "`x` must be a non-empty dict"),
        ({"x": {**X, "b": None}}, "`x` must hold arrays of numbers"),
        ({"y": {"logits": Y}}, "`y` must be one array of labels"),
        ({"y": None}, "`y`"),
        ({"scores": 3}, "`scores` must be a list or tuple"),
        ({"scores": {"nll"}}, "`scores` must be a list or tuple"),
        ({"keep_predictions": "yes"}, "`keep_predictions` must be True or"),
        ({"verbose": "loud"}, "`verbose` must be"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
    ],
)
def test_robustness_refuses(change, text, model):
    arguments = {
        "model": model, "x": X, "y": Y, "corruptions": ["missing"],
        "verbose": 0, **change,
    }  # fmt: skip
    refused(lambda: evaluation.evaluate_robustness(**arguments), text)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"model": lambda x: P}, "`model` must be a Keras model"),
        ({"model": None}, "`model` must be a Keras model.*model=None"),
        ({"x": X["a"]}, "`x` must be a non-empty dict"),
        ({"y": {"logits": Y}}, "`y` must be one array of labels"),
        ({"baseline": "noise"}, "`baseline` must be one of"),
        ({"baseline": 3}, "`baseline` must be one of"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"batch_size": "big"}, "batch_size='big'"),
        ({"verbose": "loud"}, "`verbose` must be"),
    ],
)
def test_contributions_refuse(change, text, model):
    arguments = {"model": model, "x": X, "y": Y, **change}
    refused(lambda: evaluation.modality_contributions(**arguments), text)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"explanation": None}, "from `MICINet.explain`. Received: no dict"),
        ({"explanation": {"feature": 1}}, "a dict without"),
        ({"sample": 30}, r"`sample` must be in \[0, 30\)"),
        ({"sample": "one"}, "sample='one'"),
        ({"sample": 1.5}, "sample=1.5"),
        ({"label": 3}, r"`label` must be in \[0, 3\)"),
        ({"label": "one"}, "label='one'"),
        ({"modality_names": ["a"]}, "`modality_names` must hold 2 names"),
        ({"modality_names": "ab"}, "`modality_names` must hold 2 names"),
        ({"class_names": ["a"]}, "`class_names` must hold 3 names"),
    ],
)
def test_the_plot_refuses(change, text, explanation):
    pytest.importorskip("matplotlib")
    arguments = {"explanation": explanation, **change}
    refused(lambda: evaluation.plot_ici(**arguments), text)


def test_logits_are_told_from_probabilities():
    scaling = TemperatureScaling()
    refused(lambda: scaling.fit(P, Y), "`logits` must be logits, not prob")
    refused(lambda: scaling.calibrate(P), "`logits` must be logits, not prob")
    # One row may be either.
    assert scaling.calibrate(P[:1]).shape == (1, 3)
    rule = evaluation.selective_prediction(P, Y, risk=0.9, delta=0.5)
    refused(lambda: rule.accept(LOGITS), "probabilities, not logits")


@pytest.mark.parametrize(
    "mask, text",
    [
        (np.ones((5, 2)), "one row a sample"),
        (np.ones(30), "one row a sample"),
        (np.full((30, 2), 0.5), "only 0 .missing. and 1 .present."),
    ],
)
def test_the_mask_beside_logits_fits(mask, text):
    outputs = {"logits": LOGITS, "modality_mask": mask}
    refused(lambda: TemperatureScaling().fit(outputs, Y), text)


@pytest.mark.parametrize("thresholds", ["abc", ["a", "b"], 3, [0.1], [None]])
def test_thresholds_are_numbers(thresholds):
    refused(
        lambda: evaluation.ConformalSets(thresholds=thresholds),
        "`thresholds` must be None or a finite number a class",
    )


@pytest.mark.parametrize(
    "change, text",
    [
        ({"threshold": "high"}, "threshold='high'"),
        ({"coverage": 2.0}, "coverage=2.0"),
        ({"bound": None}, "bound=None"),
        ({"samples": -3}, "samples=-3"),
        ({"own_confidence": "yes"}, "own_confidence='yes'"),
    ],
)
def test_a_rule_is_made_of_numbers(change, text):
    arguments = {
        "threshold": 0.5, "coverage": 0.5, "empirical_risk": np.nan,
        "bound": 0.1, "risk": 0.1, "delta": 0.1, "samples": 30, **change,
    }  # fmt: skip
    refused(lambda: SelectiveRule(**arguments), text)


def test_a_corruption_takes_a_dict_and_says_so_in_a_sentence():
    class Nothing(Corruption):
        def corrupt(self, values, corrupted, present, rng):
            return values

    for inputs in (X["a"], None, [X["a"]], {}):
        refused(lambda inputs=inputs: Nothing(1.0)(inputs), "non-empty dict")


def test_every_evaluation_takes_what_a_model_returns(model):
    outputs = model.predict(X, verbose=0)
    assert isinstance(outputs, dict)
    scaling = TemperatureScaling().fit(outputs, Y)
    calibrated = scaling.apply(outputs)
    sets = evaluation.ConformalSets(0.5).fit(calibrated, Y)
    assert sets.predict(calibrated).shape == (30, 3)
    rule = evaluation.selective_prediction(calibrated, Y, 0.9, 0.5)
    assert rule.accept(calibrated).shape == (30,)
    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, calibrated)
    np.testing.assert_array_equal(
        sets.predict(tensors), sets.predict(calibrated)
    )


def test_a_class_is_no_model():
    for model in (keras_mmrel.ConcatFusion, keras.Model):
        for call in (
            lambda m: evaluation.evaluate_robustness(m, X, Y, verbose=0),
            lambda m: evaluation.modality_contributions(m, X, Y),
        ):
            refused(
                lambda call=call, model=model: call(model),
                "`model` must be a Keras model.*which is a class",
            )
    for given in (
        keras_mmrel.ConcatFusion,
        keras_mmrel.LateFusion({"a": (4,), "b": (2,)}, 3),
    ):
        refused(
            lambda given=given: evaluation.selective_prediction(given, Y),
            "`probabilities` must hold numbers",
        )


@pytest.mark.parametrize(
    "samples",
    [[100], [-1], 3, [0.5], "a", None, [[0]], np.ones(5, bool)],
)
def test_samples_that_are_not_there_cannot_be_taken(samples):
    refused(
        lambda: Predictions(P, Y).take(samples),
        r"`samples` must hold numbers of samples in \[0, 30\)",
    )


def test_none_of_the_samples_may_be_taken():
    assert len(Predictions(P, Y).take([]).labels) == 0
    assert len(Predictions(P, Y).take(Y == 1).labels) == 10


SAVED = {
    "rule": SelectiveRule(0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 30),
    "sets": evaluation.ConformalSets(),
    "scaling": TemperatureScaling(),
}


@pytest.mark.parametrize("name", SAVED)
def test_what_is_saved_has_a_path(name, tmp_path):
    saved = SAVED[name]
    for path in (None, 3, ""):
        for call in (saved.save, saved.load):
            refused(
                lambda call=call, path=path: call(path),
                "`path` must be a path. Received: path=",
            )
    refused(lambda: saved.save(tmp_path), "which is a folder")
    with pytest.raises(FileNotFoundError, match="must be in a folder that"):
        saved.save(tmp_path / "none" / "a.json")
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(FileNotFoundError, match="which is no file"):
            saved.load(path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    refused(lambda: saved.load(tmp_path / "bytes"), "could not be read")


def test_a_report_has_a_folder(model, tmp_path):
    pytest.importorskip("pandas")
    report = evaluation.evaluate_robustness(model, X, Y, ["missing"], verbose=0)
    for path in (None, 3, ""):
        for call in (report.save, report.load):
            refused(
                lambda call=call, path=path: call(path),
                "`folder` must be a path. Received: folder=",
            )
    file = tmp_path / "file"
    file.write_text("mine")
    refused(lambda: report.save(file), "`folder` must be a folder.*is a file")
    assert file.read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="must hold a saved report"):
        report.load(file)
