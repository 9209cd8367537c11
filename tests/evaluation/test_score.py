import dataclasses
import json
import math

import numpy as np
import pytest

from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.evaluation import SCORES
from keras_mmrel.evaluation import Predictions
from keras_mmrel.evaluation import RobustnessReport
from keras_mmrel.evaluation import Score
from keras_mmrel.evaluation import evaluate_robustness
from tests.helpers import vectors

P = np.array([[0.7, 0.3], [0.4, 0.6], [0.55, 0.45], [0.2, 0.8]])
Y = np.array([0, 1, 1, 1])


def worst_class(predictions):
    """Error of the class with most errors."""
    y, right = predictions.labels, predictions.right
    return max(1 - right[y == c].mean() for c in np.unique(y))


WORST = Score(
    "worst_class",
    worst_class,
    higher_is_better=False,
    description="errors in the class with most of them",
    percent=True,
)


def evaluate(
    scores=None, outputs=None, corruptions=("gaussian_one",), **kwargs
):
    x, y = vectors(60, {"a": (6,), "b": (4,)}, 3)

    def model(x):
        logits = 3.0 * x["a"][:, :3] - 2.0 * x["b"][:, :3]
        return {"logits": logits, **(outputs or {})}

    report = evaluate_robustness(
        model, x, y, corruptions, [1.0], scores=scores, verbose=0, **kwargs
    )
    return report, x, y


def test_own_score_is_one_object_and_stands_wherever_scores_do(tmp_path):
    report, x, y = evaluate(["nll", WORST], corruptions=[GaussianNoise(1.0)])
    assert list(report.scores.columns)[-2:] == ["nll", "worst_class"]
    noisy = GaussianNoise(1.0)(x, seed=0)
    predicted = (3.0 * noisy["a"][:, :3] - 2.0 * noisy["b"][:, :3]).argmax(1)
    expected = max((predicted != y)[y == c].mean() for c in range(3))
    assert 0 < expected < 1
    np.testing.assert_allclose(report.scores["worst_class"][1], expected)
    assert "worst_class std" in report.summary()
    table = report.to_markdown().split("\n")
    assert table[0].endswith("| nll ↓ | worst_class in % ↓ |")
    assert table[-1].endswith(f"| {100 * expected:.1f} |")
    assert "worst_class ↓: errors in the class with" in report.legend()
    panels = report.plot().axes
    assert [panel.get_ylabel() for panel in panels[:2]] == [
        "nll ↓",
        "worst_class ↓",
    ]
    report.save(tmp_path)
    loaded = RobustnessReport.load(tmp_path)
    assert loaded.to_markdown() == report.to_markdown()
    assert loaded.legend() == report.legend()


def test_own_score_of_every_modality_has_a_column_each():
    spread = Score(
        "spread",
        lambda predictions: predictions.confidence.std(axis=0),
        higher_is_better=None,
        needs=("confidence",),
        per_modality=True,
    )
    confidence = np.random.default_rng(0).random((60, 2))
    report, *_ = evaluate([spread], {"confidence": confidence})
    for column, name in enumerate("ab"):
        np.testing.assert_allclose(
            report.scores[f"spread/{name}"], confidence[:, column].std()
        )
    # Nothing to read: no column.
    report, *_ = evaluate([spread, "nll"])
    assert not [c for c in report.scores if c.startswith("spread")]
    one = dataclasses.replace(spread, function=lambda predictions: [1.0])
    with pytest.raises(ValueError, match=r"one number a modality.*\(1,\)"):
        evaluate([one], {"confidence": confidence})


def test_a_score_of_every_sample_is_their_mean():
    top = Score(
        "top", lambda p: p.probabilities.max(axis=1), None, per_sample=True
    )
    predictions = Predictions(P, Y)
    assert top.of_samples(predictions).shape == Y.shape
    assert top.columns(predictions) == {"top": P.max(axis=1).mean()}
    one = dataclasses.replace(top, function=lambda p: 1.0)
    with pytest.raises(ValueError, match="one number a sample.*a float"):
        one.columns(predictions)


def test_only_the_chosen_scores_are_computed():
    def never(predictions):
        raise AssertionError

    lost = Score("auroc", never, True, needs=("probabilities", "binary"))
    report, *_ = evaluate(["brier", lost])
    known = [*report.scores.columns]
    assert known == [
        "corruption", "severity", "seed", "in_range", "samples", "invalid",
        "brier", "auroc",
    ]  # fmt: skip
    # Three classes: it needs two and is not called.
    assert report.scores["auroc"].isna().all()


def test_registered_scores_say_name_direction_and_legend():
    assert list(SCORES)[:3] == ["accuracy", "f1_macro", "f1_weighted"]
    for name, score in SCORES.items():
        assert score.name == name
        assert score.description
        record = json.loads(json.dumps(score.describe()))
        assert dataclasses.replace(score, **record) == dataclasses.replace(
            score, needs=list(score.needs)
        )
    up = [name for name, score in SCORES.items() if score.higher_is_better]
    assert up == [
        "accuracy", "f1_macro", "f1_weighted", "auroc", "corrupted_auroc",
        "quality_auroc",
    ]  # fmt: skip
    neither = [n for n, s in SCORES.items() if s.higher_is_better is None]
    assert neither == ["confidence", "depth"]


@pytest.mark.parametrize(
    "name", ["accuracy", "f1_macro", "auroc", "nll", "ece", "brier", "aurc"]
)
def test_direction_of_a_score_is_that_of_better_predictions(name):
    score = SCORES[name]
    bad = score.columns(Predictions(P[:, ::-1], Y))[name]
    good = score.columns(Predictions(P, Y))[name]
    assert (good > bad) is score.higher_is_better


def test_predictions_of_some_samples_are_theirs():
    full = Predictions(
        P,
        Y,
        confidence=np.arange(8.0).reshape(4, 2),
        corrupted=np.eye(4, 2, dtype=bool),
        modality_names=["a", "b"],
    )
    some = full.take(np.array([3, 1, 1]))
    np.testing.assert_array_equal(some.right, [True, True, True])
    np.testing.assert_array_equal(some.confidence[0], [6, 7])
    np.testing.assert_allclose(some.log_probabilities, np.log(P[[3, 1, 1]]))
    assert some.depth is None and some.modality_names == ["a", "b"]
    nll = SCORES["nll"].columns(some)["nll"]
    np.testing.assert_allclose(nll, -np.log([0.8, 0.6, 0.6]).mean())


def test_score_whose_need_is_not_met_is_nan():
    confidence = np.array([[0.9, 0.2], [0.8, 0.1], [0.1, 0.9], [0.7, 0.6]])
    names = ["a", "b"]
    known = Predictions(
        P,
        Y,
        confidence=confidence,
        modality_quality=1.0 - confidence,
        modality_names=names,
    )
    for name in ("corrupted_auroc", "quality_auroc"):
        score = SCORES[name]
        for corrupted in (None, np.zeros((4, 2), bool), np.ones((4, 2), bool)):
            row = score.columns(dataclasses.replace(known, corrupted=corrupted))
            assert math.isnan(row[name])
        corrupted = confidence < 0.5
        row = score.columns(dataclasses.replace(known, corrupted=corrupted))
        # The two outputs say the opposite here.
        assert row == {name: 1.0 if name == "corrupted_auroc" else 0.0}
    unknown = dataclasses.replace(known, modality_quality=None)
    assert SCORES["quality_auroc"].columns(unknown) == {}


def test_kept_predictions_give_the_scores_again(tmp_path):
    report, _, y = evaluate(keep_predictions=True, seeds=2)
    assert len(report.predictions) == len(report.scores) == 3
    np.testing.assert_array_equal(report.labels, y)
    for p, (_, row) in zip(
        report.predictions, report.scores.iterrows(), strict=True
    ):
        assert (p.dtype, p.shape) == (np.float32, (60, 3))
        again = Predictions(p.astype("float64"), report.labels)
        for name in ("accuracy", "nll", "ece", "aurc"):
            np.testing.assert_allclose(
                SCORES[name].columns(again)[name], row[name], rtol=1e-5
            )
    report.save(tmp_path)
    loaded = RobustnessReport.load(tmp_path)
    np.testing.assert_array_equal(loaded.labels, report.labels)
    np.testing.assert_array_equal(loaded.predictions, report.predictions)
    (tmp_path / "predictions.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="predictions.npz must be as `save`"):
        RobustnessReport.load(tmp_path)
    (tmp_path / "predictions.npz").unlink()
    with pytest.raises(FileNotFoundError, match="predictions.npz"):
        RobustnessReport.load(tmp_path)
    plain, *_ = evaluate()
    assert plain.predictions is None and plain.labels is None
    report.save(tmp_path, overwrite=True)
    plain.save(tmp_path, overwrite=True)
    assert not (tmp_path / "predictions.npz").exists()
    assert RobustnessReport.load(tmp_path).predictions is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": ""}, "`name` must be a non-empty string"),
        ({"function": 3}, "`function` of 's' must be a function"),
        ({"needs": "binary"}, "`needs` of 's' must be a sequence"),
        ({"needs": ("speed",)}, "`needs` of 's' must be .*speed"),
        ({"higher_is_better": "up"}, "`higher_is_better` of 's' .*'up'"),
    ],
)
def test_bad_score_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        Score(
            **{
                "name": "s",
                "function": worst_class,
                "higher_is_better": True,
                **change,
            }
        )


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        (["acuracy"], "`scores` must hold .*'acuracy'"),
        ([3], "`scores` must hold"),
        ([], "`scores` must hold"),
        (["nll", "nll"], "different names"),
        (
            [dataclasses.replace(WORST, name="severity")],
            "none of them out of .*'severity'",
        ),
    ],
)
def test_bad_scores_are_refused(scores, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate(scores)
