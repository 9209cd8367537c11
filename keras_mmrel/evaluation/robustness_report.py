import csv
import io
import json
import os
import pathlib
import zlib
from typing import Any

import numpy as np

from keras_mmrel.evaluation._imports import needs

KEYS = ["corruption", "severity"]
FORMAT = 1
# What `to_markdown` shows by default, where it is known.
SHOWN = (
    "accuracy", "f1_macro", "auroc", "nll", "ece", "brier", "aurc",
    "corrupted_auroc", "depth",
)  # fmt: skip


class RobustnessReport:
    """Scores of a model on clean and corrupted test data.

    Made by `keras_mmrel.evaluation.evaluate_robustness`.

    Attributes:
        scores: Tidy `pandas.DataFrame`, one row for each corruption, severity
            and seed. Shares, F1 and areas are in [0, 1].
        curves: Tidy `pandas.DataFrame` with the points of the reliability
            diagrams and the risk-coverage curves.
        info: Dict: model, modalities, number of classes and samples, the
            protocols in full, versions.

    Args:
        scores: As the attribute.
        curves: As the attribute.
        info: As the attribute.

    Example:

    >>> model = keras_mmrel.LateFusion({"a": (8,), "b": (4,)}, 2)
    >>> x = {"a": np.random.rand(20, 8), "b": np.random.rand(20, 4)}
    >>> report = keras_mmrel.evaluation.evaluate_robustness(
    ...     model, x, np.arange(20) % 2, ["missing"], seeds=2, verbose=0
    ... )
    >>> report.summary()["seeds"].tolist()
    [1, 2, 2]
    """

    def __init__(self, scores: Any, curves: Any, info: dict[str, Any]) -> None:
        self.scores = scores
        self.curves = curves
        self.info = info

    def __repr__(self) -> str:
        return (
            f"<RobustnessReport of '{self.info['model']}': "
            f"{len(self.scores)} rows, {self.info['samples']} samples>"
        )

    def summary(self) -> Any:
        """Return mean and standard deviation over the seeds.

        Returns:
            `pandas.DataFrame` with a row for each corruption and severity,
            the columns of `scores`, `<score> std` (NaN for a single seed)
            and the number of `seeds`. A NaN of one seed makes the mean NaN.
        """
        pandas = needs("pandas", "RobustnessReport.summary")
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
        return pandas.DataFrame(rows)

    def _score_names(self) -> list[str]:
        keys = (*KEYS, "seed", "samples")
        return [name for name in self.scores.columns if name not in keys]

    def to_markdown(self, columns: Any = None) -> str:
        """Return a Markdown table, mean ± standard deviation over seeds.

        Args:
            columns: Names of scores; by default the main ones that are known.

        Raises:
            ValueError: If a column is unknown.
        """
        known = self._score_names()
        if columns is None:
            columns = [
                c
                for c in SHOWN
                if c in known and not self.scores[c].isna().all()
            ]
        unknown = [c for c in columns if c not in known]
        if unknown:
            raise ValueError(
                f"`columns` must be scores out of {known}. Received: {unknown}"
            )
        table = self.summary()
        lines = [
            "| corruption | severity | " + " | ".join(columns) + " |",
            "|" + "---|" * (len(columns) + 2),
        ]
        for _, row in table.iterrows():
            cells = [
                _cell(row[c], row[f"{c} std"], row["seeds"]) for c in columns
            ]
            name = row["corruption"].replace("|", "\\|")
            lines.append(
                f"| {name} | {row['severity']:g} | " + " | ".join(cells) + " |"
            )
        return "\n".join(lines)

    def plot(self) -> Any:
        """Draw the report.

        Accuracy and calibration error against severity, the risk-coverage
        curves and the reliability diagram, of clean data and of the largest
        severity of each corruption.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ImportError: If matplotlib is not there.
        """
        from keras_mmrel.evaluation._report_plot import draw

        return draw(self)

    def save(self, folder: Any, overwrite: bool = False) -> None:
        """Write the report as two CSV files, a JSON and a Markdown file.

        Args:
            folder: Made if it is not there.
            overwrite: Whether another report in it may be replaced.

        Raises:
            FileExistsError: If the folder holds a report and `overwrite` is
                false.
        """
        folder = pathlib.Path(folder)
        if (folder / "report.json").exists() and not overwrite:
            raise FileExistsError(
                "`folder` must hold no report yet, unless `overwrite=True`. "
                f"Received: folder={str(folder)!r}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        tables = {
            "scores.csv": self.scores.to_csv(index=False),
            "curves.csv": self.curves.to_csv(index=False),
        }
        record = {
            "format": FORMAT,
            "info": self.info,
            "checksums": {n: _checksum(t) for n, t in tables.items()},
        }
        files = {
            **tables,
            "report.md": f"# {self.info['model']}\n\n{self.to_markdown()}\n",
            # Last: a folder with this file is whole.
            "report.json": json.dumps(record, indent=1) + "\n",
        }
        for name, text in files.items():
            part = folder / f"{name}.part"
            part.write_bytes(text.encode())
            os.replace(part, folder / name)

    @classmethod
    def load(cls, folder: Any) -> "RobustnessReport":
        """Read what `save` wrote.

        Args:
            folder: Folder of the report.

        Raises:
            FileNotFoundError: If there is no whole report in the folder.
            ValueError: If a file was cut off or changed, or is of another
                version's format.
        """
        pandas = needs("pandas", "RobustnessReport.load")
        folder = pathlib.Path(folder)
        names = ("report.json", "scores.csv", "curves.csv")
        lost = [name for name in names if not (folder / name).exists()]
        if lost:
            raise FileNotFoundError(
                "`folder` must hold a saved report. Received: "
                f"folder={str(folder)!r} without {lost}"
            )
        try:
            record = json.loads((folder / names[0]).read_text())
            checksums = {name: record["checksums"][name] for name in names[1:]}
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
        tables: dict[str, Any] = {}
        for name in names[1:]:
            text = (folder / name).read_bytes().decode(errors="replace")
            if _checksum(text) != checksums[name]:
                raise ValueError(
                    f"{folder / name} must be as `save` wrote it. Received: a "
                    "file that was cut off or changed"
                )
            header, *rows = csv.reader(io.StringIO(text, newline=""))
            columns = {
                column: _parsed(column, [row[i] for row in rows])
                for i, column in enumerate(header)
            }
            tables[name] = pandas.DataFrame(
                columns if rows else None, columns=header
            )
        return cls(tables["scores.csv"], tables["curves.csv"], info)


def _cell(mean: float, deviation: float, seeds: int) -> str:
    if not np.isfinite(mean):
        return "–"
    return f"{mean:.3f}" + (f" ± {deviation:.3f}" if seeds > 1 else "")


def _parsed(column: str, texts: list[str]) -> list:
    """A column of a CSV file, each number exactly as it was written."""
    # A corruption may be called "None", or "5".
    if column in ("corruption", "curve"):
        return texts
    try:
        return [int(text) for text in texts]
    except ValueError:
        return [float(text or "nan") for text in texts]


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())
