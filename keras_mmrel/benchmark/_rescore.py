"""Scores that runs lack, computed again from the kept predictions."""

from collections.abc import Sequence

from keras_mmrel.benchmark._kept import Kept
from keras_mmrel.benchmark._recorded import Recorded
from keras_mmrel.benchmark._records import Added
from keras_mmrel.benchmark._records import Run
from keras_mmrel.benchmark._store import Store
from keras_mmrel.benchmark._store import plain
from keras_mmrel.benchmark.evaluation import Evaluation
from keras_mmrel.evaluation import Score

# What is kept of every run, whatever version made it.
ALWAYS = {"probabilities", "binary"}


def lacking(run: Run, evaluation: Evaluation) -> list[Score]:
    """Return the scores that a run was not asked for, and may be now."""
    return [
        score
        for score in evaluation.scores
        if score.name not in run.scored
        and not isinstance(score.function, Recorded)
    ]


def added_scores(
    store: Store, evaluation: Evaluation, environment: str
) -> list[Added]:
    """Compute what finished runs lack; nothing is written.

    Args:
        store: Folder of the runs.
        evaluation: The scores.
        environment: Id of the versions that compute them.

    Raises:
        ValueError: If a score needs what is not kept.
    """
    return [
        _added(store, run, scores, evaluation.bins, environment)
        for run in store.runs()
        if (scores := lacking(run, evaluation))
    ]


def add_scores(store: Store, added: Sequence[Added], verbose: int) -> None:
    """Write what `added_scores` found, and say so."""
    for record in added:
        store.add(record)
    if added and verbose:
        names = sorted({name for record in added for name in record.scored})
        print(
            f"{', '.join(names)}: computed again from the kept predictions of "
            f"{len(added)} runs in {store.folder}"
        )


def _added(
    store: Store,
    run: Run,
    scores: Sequence[Score],
    bins: int,
    environment: str,
) -> Added:
    kept = store.kept(run.job)
    if kept is None:
        raise _refusal(run, scores[0], "which are not there", store)
    conditions = (kept.corruption, kept.severity, kept.seed)
    names = ("corruption", "severity", "seed")
    if [list(c) for c in conditions] != [list(run.scores[n]) for n in names]:
        raise _refusal(run, scores[0], "which are of other conditions", store)
    columns: dict[str, list] = {}
    for score in scores:
        columns.update(_columns(score, run, kept, bins, store))
    return Added(
        job=run.job,
        scores=columns,
        scored=[score.name for score in scores],
        environment=environment,
    )


def _columns(
    score: Score, run: Run, kept: Kept, bins: int, store: Store
) -> dict[str, list]:
    if not kept.is_whole and not set(score.needs) <= ALWAYS:
        raise _refusal(
            run,
            score,
            f"which were kept without what it needs, {list(score.needs)}",
            store,
        )
    rows = [
        score.columns(kept.predictions(condition, bins))
        for condition in range(len(kept.corruption))
    ]
    return {name: [plain(row[name]) for row in rows] for name in rows[0]}


def _refusal(run: Run, score: Score, why: str, store: Store) -> ValueError:
    return ValueError(
        "`evaluation.scores` must be scores that can be computed of the kept "
        "predictions of finished runs; leave the score out, or run into "
        f"another folder. Received: '{score.name}' for the predictions of "
        f"the run {run.job.id} in {store.folder}, {why}"
    )
