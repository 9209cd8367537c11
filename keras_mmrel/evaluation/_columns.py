"""What the columns of a report are: read from its scores."""

from typing import TYPE_CHECKING
from typing import Any

from keras_mmrel.evaluation.predictions import Predictions
from keras_mmrel.evaluation.score import Score

if TYPE_CHECKING:
    from keras_mmrel.evaluation.robustness_report import RobustnessReport

# The number of invalid predictions is no score.
COUNT = Score(
    "invalid",
    lambda predictions: float((~predictions.valid).sum()),
    higher_is_better=False,
)


def column_scores(report: "RobustnessReport") -> dict[str, Score]:
    """Return the score of each column of a report that has one."""
    scores = [_restored(record) for record in report.info["scores"]]
    return {
        column: score
        for score in scores
        for column in report.scores.columns
        if column == score.name
        or (score.per_modality and column.startswith(f"{score.name}/"))
    }


def legend(report: "RobustnessReport") -> str:
    """One item a score: name, direction, what it is."""
    scores = {score.name: score for score in column_scores(report).values()}
    lines = []
    for name, score in scores.items():
        lines.append(f"- {name} {score.arrow}".rstrip())
        if score.description:
            lines[-1] += f": {score.description}"
    return "\n".join(lines)


def _restored(record: dict[str, Any]) -> Score:
    """A score whose function stayed in the program that made the report."""
    return Score(function=_lost, **record)


def _lost(predictions: Predictions) -> float:
    raise NotImplementedError("The report holds no functions of its scores")
