import csv
import io
import json
import os
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.contract import Figure
from keras_mmrel.contract import Frame
from keras_mmrel.contract import as_path
from keras_mmrel.evaluation._columns import COUNT
from keras_mmrel.evaluation._columns import column_scores
from keras_mmrel.evaluation._columns import legend
from keras_mmrel.evaluation.score import Score
from keras_mmrel.optional import require

KEYS = ["corruption", "severity", "in_range"]
FORMAT = 2
PREDICTIONS = "predictions.npz"
FLAGS = {"True": True, "False": False}


class RobustnessReport:
    """Scores of a model on clean and corrupted test data.

    Made by `keras_mmrel.evaluation.evaluate_robustness`.

    Attributes:
        scores: Tidy `pandas.DataFrame`, one row for each corruption, severity
            and seed, clean data first. Fractions, F1 and areas are in [0, 1].
            `in_range` says whether the corruption has left every feature
            within the range of the clean data.
        curves: Tidy `pandas.DataFrame` with the points of the reliability
            diagrams and the risk-coverage curves.
        info: Dict: model, modalities, number of classes and samples, the
            protocols in full, scores without their functions, versions.
        predictions: With `keep_predictions`, the predicted probabilities of
            each row of `scores`, a list of float32 `(samples, classes)`;
            `None` otherwise.
        labels: Class numbers `(samples,)` beside them, or `None`.

    Args:
        scores: As the attribute.
        curves: As the attribute.
        info: As the attribute.
        predictions: As the attribute.
        labels: As the attribute.

    Example:

    >>> model = keras_mmrel.LateFusion({"a": (8,), "b": (4,)}, 2)
    >>> x = {"a": np.random.rand(20, 8), "b": np.random.rand(20, 4)}
    >>> report = keras_mmrel.evaluation.evaluate_robustness(
    ...     model, x, np.arange(20) % 2, ["missing"], seeds=2, verbose=0
    ... )
    >>> report.summary()["seeds"].tolist()
    [1, 2, 2]
    """

    def __init__(
        self,
        scores: Frame,
        curves: Frame,
        info: dict[str, Any],
        predictions: list[Array] | None = None,
        labels: Array | None = None,
    ) -> None:
        self.scores = scores
        self.curves = curves
        self.info = info
        self.predictions = predictions
        self.labels = labels

    def __repr__(self) -> str:
        return (
            f"<RobustnessReport of '{self.info['model']}': "
            f"{len(self.scores)} rows, {self.info['samples']} samples>"
        )

    def summary(self) -> Frame:
        """Return mean and standard deviation over the seeds.

        Returns:
            `pandas.DataFrame` with a row for each corruption and severity,
            those that leave the range of the clean data before those that do
            not; the columns of `scores`, `<score> std` (NaN for a single seed)
            and the number of `seeds`. A NaN of one seed makes the mean NaN.
        """
        pandas = require("pandas", "RobustnessReport.summary")
        rows = []
        for key, group in self.scores.groupby(KEYS, sort=False):
            row = dict(zip(KEYS, key, strict=True))
            row["seeds"] = len(group)
            for name in self._score_names():
                values = group[name].to_numpy("float64")
                row[name] = values.mean()
                row[f"{name} std"] = (
                    values.std(ddof=1) if len(values) > 1 else np.nan
                )
            rows.append(row)
        # Clean data first, then outside and inside the range.
        rows[1:] = sorted(rows[1:], key=lambda row: row["in_range"])
        return pandas.DataFrame(rows)

    def _score_names(self) -> list[str]:
        keys = (*KEYS, "seed", "samples")
        return [name for name in self.scores.columns if name not in keys]

    def to_markdown(self, columns: Sequence[str] | None = None) -> str:
        """Return a Markdown table, mean ± standard deviation over seeds.

        An arrow tells where better values are. Corruptions outside the range
        of the clean data come before those inside it.

        Args:
            columns: Names of columns of scores; by default those whose
                `Score` is shown, as far as they are known.

        Raises:
            ValueError: If a column is unknown.
        """
        known = self._score_names()
        declared = column_scores(self)
        if columns is None:
            columns = [
                name
                for name, score in declared.items()
                if score.shown and not self.scores[name].isna().all()
            ]
        unknown = [c for c in columns if c not in known]
        if unknown:
            raise ValueError(
                f"`columns` must be scores out of {known}. Received: {unknown}"
            )
        shown = {c: declared.get(c, COUNT) for c in columns}
        heads = [
            f"{name}{' in %' if score.percent else ''} {score.arrow}".strip()
            for name, score in shown.items()
        ]
        lines = [
            "| range | corruption | severity | " + " | ".join(heads) + " |",
            "|" + "---|" * (len(heads) + 3),
        ]
        for _, row in self.summary().iterrows():
            cells = [
                _cell(row[c], row[f"{c} std"], row["seeds"], score)
                for c, score in shown.items()
            ]
            name = row["corruption"]
            where = "inside" if row["in_range"] else "outside"
            head = [
                "" if name == "clean" else where,
                name.replace("|", "\\|"),
                f"{row['severity']:g}",
            ]
            lines.append("| " + " | ".join([*head, *cells]) + " |")
        return "\n".join(lines)

    def legend(self) -> str:
        """Return a line for each score that says what it is."""
        return legend(self)

    def plot(self) -> Figure:
        """Draw the report.

        Two scores against severity (accuracy and calibration error where they
        are there, else the first), the risk-coverage curves and the
        reliability diagram, of clean data and of the largest severity of each
        corruption. Solid lines leave the range of the clean data, dashed ones
        stay inside it.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ImportError: If matplotlib is not there.
        """
        from keras_mmrel.evaluation._report_plot import draw

        return draw(self)

    def save(self, folder: str | os.PathLike, overwrite: bool = False) -> None:
        """Write the report as two CSV files, a JSON and a Markdown file.

        Kept predictions are written beside them as `predictions.npz`.

        Args:
            folder: Made if it is not there.
            overwrite: Whether another report in it may be replaced.

        Raises:
            FileExistsError: If the folder holds a report and `overwrite` is
                false.
            ValueError: If `folder` is no path, or a file.
        """
        folder = as_path("folder", folder)
        if folder.exists() and not folder.is_dir():
            raise ValueError(
                "`folder` must be a folder, or be made as one. Received: "
                f"folder={str(folder)!r}, which is a file"
            )
        if (folder / "report.json").exists() and not overwrite:
            raise FileExistsError(
                "`folder` must hold no report yet, unless `overwrite=True`. "
                f"Received: folder={str(folder)!r}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        tables = {
            "scores.csv": self.scores.to_csv(index=False).encode(),
            "curves.csv": self.curves.to_csv(index=False).encode(),
        }
        if self.predictions is not None and self.labels is not None:
            tables[PREDICTIONS] = _packed(self.predictions, self.labels)
        record = {
            "format": FORMAT,
            "info": self.info,
            "checksums": {n: zlib.crc32(t) for n, t in tables.items()},
        }
        files = {
            **tables,
            "report.md": self._page().encode(),
            # Last: a folder with this file is whole.
            "report.json": (json.dumps(record, indent=1) + "\n").encode(),
        }
        for name, content in files.items():
            part = folder / f"{name}.part"
            part.write_bytes(content)
            os.replace(part, folder / name)
        if PREDICTIONS not in files:
            (folder / PREDICTIONS).unlink(missing_ok=True)

    def _page(self) -> str:
        title = f"# {self.info['model']}"
        return "\n\n".join([title, self.to_markdown(), self.legend()]) + "\n"

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "RobustnessReport":
        """Read what `save` wrote.

        Args:
            folder: Folder of the report.

        Raises:
            FileNotFoundError: If there is no whole report in the folder.
            ValueError: If `folder` is no path, a file was cut off or changed,
                or it is of another
                version's format.
        """
        pandas = require("pandas", "RobustnessReport.load")
        folder = as_path("folder", folder)
        names = ("report.json", "scores.csv", "curves.csv")
        lost = [name for name in names if not (folder / name).exists()]
        if lost:
            raise FileNotFoundError(
                "`folder` must hold a saved report. Received: "
                f"folder={str(folder)!r} without {lost}"
            )
        try:
            record = json.loads((folder / names[0]).read_text())
            checksums = dict(record["checksums"])
            if set(names[1:]) - set(checksums):
                raise KeyError("checksums")
            info, version = record["info"], record["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{folder / names[0]} must be a whole file written by `save`. "
                f"Received: {error}"
            ) from error
        if version != FORMAT:
            raise ValueError(
                f"{folder / names[0]} must be of the format {FORMAT} that this "
                f"version's `save` writes. Received: format={version!r}"
            )
        files = {n: _read(folder / n, c) for n, c in checksums.items()}
        tables = []
        for name in names[1:]:
            text = files[name].decode()
            header, *rows = csv.reader(io.StringIO(text, newline=""))
            columns = {
                column: _parsed(column, [row[i] for row in rows])
                for i, column in enumerate(header)
            }
            tables.append(
                pandas.DataFrame(columns if rows else None, columns=header)
            )
        kept: dict[str, Any] = {}
        if PREDICTIONS in files:
            with np.load(io.BytesIO(files[PREDICTIONS])) as arrays:
                kept["predictions"] = list(arrays["probabilities"])
                kept["labels"] = arrays["labels"]
        return cls(tables[0], tables[1], info, **kept)


def _packed(predictions: list[Array], labels: Array) -> bytes:
    file = io.BytesIO()
    np.savez(file, labels=labels, probabilities=np.stack(predictions))
    return file.getvalue()


def _read(path: pathlib.Path, checksum: int) -> bytes:
    if not path.exists():
        raise FileNotFoundError(
            f"`folder` must hold a saved report. Received: "
            f"folder={str(path.parent)!r} without ['{path.name}']"
        )
    content = path.read_bytes()
    if zlib.crc32(content) != checksum:
        raise ValueError(
            f"{path} must be as `save` wrote it. Received: a file that was "
            "cut off or changed"
        )
    return content


def _cell(mean: float, deviation: float, seeds: int, score: Score) -> str:
    if not np.isfinite(mean):
        return "–"
    digits = 1 if score.percent else 3
    cell = f"{score.scale * mean:.{digits}f}"
    if seeds > 1:
        cell += f" ± {score.scale * deviation:.{digits}f}"
    return cell


def _parsed(column: str, texts: list[str]) -> list:
    """A column of a CSV file, each number exactly as it was written."""
    # A corruption may be called "None", or "5".
    if column in ("corruption", "curve"):
        return texts
    if column == "in_range":
        return [FLAGS[text] for text in texts]
    try:
        return [int(text) for text in texts]
    except ValueError:
        return [float(text or "nan") for text in texts]
