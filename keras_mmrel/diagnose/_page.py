"""One self-contained page of a diagnosis."""

from collections.abc import Mapping
from typing import Any

from keras_mmrel.benchmark._page import escape
from keras_mmrel.diagnose._draw import bars
from keras_mmrel.diagnose._draw import curve
from keras_mmrel.diagnose._draw import dots
from keras_mmrel.diagnose._draw import table
from keras_mmrel.diagnose._rows import alone
from keras_mmrel.diagnose._sentences import percent
from keras_mmrel.diagnose._sentences import recommendation
from keras_mmrel.diagnose._style import STYLE

Record = Mapping[str, Any]
# Points that a corruption must cost for the darkest shade.
DARK = 0.5


def page(record: Record) -> str:
    """Return HTML that needs nothing beside it."""
    data = record["data"]
    title = f"Diagnosis of {data['name']}"
    sections = [
        _head(record, title),
        _checks(record),
        _accuracy(record),
        _contributions(record),
        _balance(record),
        _redundancy(record),
        _corruptions(record),
        _calibration(record),
        _suspects(record),
        _choice(record),
        _how(record),
    ]
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, '
        'initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>{body}</body></html>\n"
    )


def _heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def _text(text: str, kind: str = "") -> str:
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def _head(record: Record, title: str) -> str:
    data = record["data"]
    about = ", ".join(
        f"{m['name']} ({' × '.join(map(str, m['shape']))})"
        for m in data["modalities"]
    )
    answer = "".join(_text(s) for s in recommendation(record))
    others = [s for s in record["summary"] if s not in recommendation(record)]
    items = "".join(f"<li>{escape(s)}</li>" for s in others)
    return (
        f"<h1>{escape(title)}</h1>"
        + _text(
            f"{data['samples']:,} samples, {len(data['classes'])} classes, "
            f"{len(data['modalities'])} modalities: {about}.",
            "faint",
        )
        + f'<div class="answer"><b>What to take</b>{answer}</div>'
        + f"<h3>In short</h3><ul>{items}</ul>"
    )


def _checks(record: Record) -> str:
    found = record["findings"]
    parts = [_heading("The data")]
    if not found:
        parts.append(
            _text("Nothing is wrong with the data that the checks look for.")
        )
    for finding in found:
        rows = ""
        if finding["rows"]:
            shown = ", ".join(map(str, finding["rows"]))
            rows = f'<p class="faint">Rows: {escape(shown)}</p>'
        parts.append(
            f'<div class="finding {finding["level"]}"><span class="tag">'
            f"{finding['level']}</span>{escape(finding['text'])}{rows}</div>"
        )
    parts.append(
        _text(
            "Looked for: values that are no numbers, features that are "
            "constant or stuck, rows that mark a missing modality, scales, "
            "doubles and near doubles, one file in two samples, classes that "
            "are small or rare, rows in the order of labels, columns that "
            "count rows, features that give labels away or stand in two "
            "modalities, modalities that say nothing or contradict the rest.",
            "faint",
        )
    )
    return "".join(parts)


def _accuracy(record: Record) -> str:
    cells = record["accuracy"]
    names = [alone(m["name"]) for m in record["data"]["modalities"]]
    chance = record["data"]["chance"]
    return (
        _heading("Alone and together")
        + _text(
            "Accuracy in percent on folds that were not trained on, ± the "
            "corrected error; dashed: always the most frequent class, "
            f"{100 * chance:.1f}."
        )
        + bars(list(cells.items()), chance, other=names)
    )


def _contributions(record: Record) -> str:
    found = record["contributions"]
    items = found["modalities"].items()
    rows = [
        [
            name,
            percent(cells["shapley"], True),
            percent(cells["leave_one_out"], True),
            percent(cells["alone"]),
        ]
        for name, cells in items
    ]
    return (
        _heading("What each modality contributes")
        + _text(
            f"Shapley values of accuracy in {found['method']}, in points: the "
            "mean of what a modality adds over all orders in which they may "
            "join. Together they are what all have above none, "
            f"{percent(found['none'])} %."
        )
        + bars([(n, c["shapley"]) for n, c in items], sign=True)
        + table(["modality", "Shapley", "lost without it", "it alone"], rows)
        + _text(
            "Here a trained model is told that modalities are missing; it is "
            "not trained again.",
            "faint",
        )
    )


def _balance(record: Record) -> str:
    found = record["balance"]
    if not found:
        return ""
    behind = [name for name, cells in found.items() if cells["under_trained"]]
    said = (
        f"Under-trained: {', '.join(behind)}."
        if behind
        else "No modality is under-trained."
    )
    items = [
        (name, [cells["alone"], cells["inside"], cells["balanced"]])
        for name, cells in found.items()
    ]
    key = "".join(
        f'<span class="key" style="background:var(--{color})"></span>{text}'
        for color, text in (
            ("bar", "trained alone"),
            ("other", "in concat fusion"),
            ("good", "with unimodal losses"),
        )
    )
    rows = [
        [
            name,
            percent(cells["alone"]),
            percent(cells["inside"]),
            percent(cells["behind"], True),
            percent(cells["own_logits"]),
            percent(cells["balanced"]),
        ]
        for name, cells in found.items()
    ]
    head = [
        "modality", "encoder alone", "inside", "behind", "own logits inside",
        "with unimodal losses",
    ]  # fmt: skip
    return (
        _heading("How balanced the training is")
        + _text(
            "What a linear classifier reads in each encoder's features, in "
            f"percent: the encoder trained alone, and in joint training. {said}"
        )
        + f'<p class="faint">{key}</p>'
        + dots(items)
        + table(head, rows)
    )


def _redundancy(record: Record) -> str:
    found = record["redundancy"]
    parts = [_heading("What is redundant")]
    left = found["without"]
    if left:
        rows = [
            [
                name,
                percent(cells["accuracy"]),
                percent(cells["lost"], True),
                "costs nothing" if cells["redundant"] else "is needed",
            ]
            for name, cells in left.items()
        ]
        parts.append(
            _text(
                f"{found['joint']}, trained again without each modality, in "
                "percent; a loss within one corrected error is none that "
                "these data can show."
            )
        )
        parts.append(table(["left out", "accuracy", "lost", ""], rows))
    explained = found["predicted_variance"]
    if explained:
        names = [m["name"] for m in record["data"]["modalities"]]
        shares = {
            (a, b): explained.get(f"{a} -> {b}") for a in names for b in names
        }
        rows = [
            [a]
            + [
                "–" if shares[a, b] is None else f"{100 * shares[a, b]:.0f} %"
                for b in names
            ]
            for a in names
        ]
        heat = [[0.6 * (shares[a, b] or 0.0) for b in names] for a in names]
        parts.append(
            _text(
                "Variance of a modality's features (column) that a linear map "
                "of another one (row) predicts on held-out samples:"
            )
        )
        parts.append(table(["of", *names], rows, heat=heat))
    return "".join(parts)


def _corruptions(record: Record) -> str:
    found = record["corruptions"]
    methods = list(record["candidates"])
    clean = found["clean"]
    rows, heat = [], []
    for condition, cells in found.items():
        rows.append([condition, *(percent(cells[m]) for m in methods)])
        heat.append(
            [
                min(
                    0.75,
                    max(
                        0.0,
                        ((clean[m]["mean"] or 0) - (cells[m]["mean"] or 0))
                        / DARK,
                    ),
                )
                for m in methods
            ]
        )
    chosen = record["recommendation"]["corrupted"]["method"]
    return (
        _heading("Noise, loss and mix-ups")
        + _text(
            "Accuracy in percent when one modality of every sample is noisy "
            "(Gaussian, 0.3 of the range of a feature), missing (announced by "
            "the mask), lost (zero, and nobody says so), misaligned (another "
            "sample's) or swapped with another one of its shape. The darker, "
            f"the more is lost. By the mean over all: {chosen}."
        )
        + table(["", *methods], rows, heat=heat)
    )


def _calibration(record: Record) -> str:
    parts = [
        _heading("Calibration"),
        _text(
            "Calibration error (ECE, ten bins) before and after a temperature "
            "that other folds have set; for the test part all folds have."
        ),
    ]
    rows = []
    for entry in record["calibration"]:
        test = entry.get("test", {})
        rows.append(
            [
                entry["method"],
                _number(entry["ece"]),
                _number(entry["ece_scaled"]),
                f"{entry['temperature']:.2f}",
                _plain(test.get("ece")),
                _plain(test.get("ece_scaled")),
            ]
        )
    head = [
        "", "folds", "folds, scaled", "temperature", "test", "test, scaled",
    ]  # fmt: skip
    parts.append(table(head, rows))
    for entry in record["calibration"]:
        lines = {"raw": entry["curve"], "scaled": entry["curve_scaled"]}
        parts.append(
            curve(lines, f"{entry['method']}: accuracy against confidence, %")
        )
    parts.append(
        '<p class="faint"><span class="key" style="background:var(--bar)">'
        '</span>raw<span class="key" style="background:var(--other)"></span>'
        "after the temperature; a dot's size is its share of samples</p>"
    )
    return "".join(parts)


def _number(cell: Mapping[str, float | None]) -> str:
    mean, error = cell["mean"], cell["error"]
    if mean is None:
        return "–"
    return f"{mean:.3f}" + (f" ± {error:.3f}" if error is not None else "")


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _suspects(record: Record) -> str:
    found = record["suspects"]
    parts = [
        _heading("Samples to look at"),
        _text(
            "Candidates for wrong files or labels, the worst twenty at most: "
            "each modality alone was asked about samples that it was not "
            "trained on, and contradicts. Hard samples stand here too."
        ),
    ]
    if not found:
        return "".join([*parts, _text("There are none.")])
    rows = [
        [
            s["id"] if s["id"] == str(s["row"]) else f"{s['id']} ({s['row']})",
            s["label"],
            s["said"],
            s["reason"],
        ]
        for s in found
    ]
    head = ["row", "label", "said", "why"]
    return "".join([*parts, table(head, rows, texts=[3])])


def _choice(record: Record) -> str:
    found, test = record["candidates"], record["test"]
    chosen = [
        record["recommendation"][k]["method"] for k in ("clean", "corrupted")
    ]
    rows = [
        [
            name,
            percent(c["clean"]),
            percent(c["clean_ahead"], True),
            percent(c["corrupted"]),
            percent(c["corrupted_ahead"], True),
            "–" if c["parameters"] is None else f"{c['parameters']:,}",
        ]
        for name, c in found.items()
    ]
    head = [
        "the simplest first", "clean", "to late fusion", "corrupted",
        "to late fusion", "weights",
    ]  # fmt: skip
    final = [
        [
            name,
            percent({"mean": c["accuracy"], "error": c["error"]}),
            "–"
            if c.get("ahead_of_late_fusion") is None
            else percent(
                {"mean": c["ahead_of_late_fusion"], "error": c["ahead_error"]},
                True,
            ),
        ]
        for name, c in test["methods"].items()
    ]
    return (
        _heading("The choice of a method")
        + _text(
            "Accuracy in percent on folds, and paired differences with "
            "corrected errors. Of these methods the first is taken that the "
            "best one is not ahead of by more than one error of their "
            "difference; so a method that is not simple has to earn it."
        )
        + table(head, rows, chosen=chosen)
        + _text(
            f"The test part, {test['samples']} samples, has chosen nothing and "
            "was scored once (accuracy in percent; ± over seeds and test "
            "samples):"
        )
        + table(["", "test accuracy", "to late fusion"], final)
    )


def _how(record: Record) -> str:
    plan = record["plan"]
    where = "the data's own" if plan["test_is_published"] else "drawn by chance"
    limits = [
        [name.replace("_", " "), f"{entry['value']:g}", entry["meaning"]]
        for name, entry in record["limits"].items()
    ]
    made = ", ".join(
        f"{key} {value}" for key, value in record["environment"].items()
    )
    return (
        _heading("How this was made")
        + _text(
            f"{plan['development']} samples for choices, on {plan['text']}; "
            f"{plan['test']} for the last figure, {where}. Features are "
            "scaled to [0, 1] on training samples. Folds and epochs follow "
            "from the number of samples; all rows are trained alike, for the "
            "whole number of epochs. Errors over folds are corrected for the "
            "samples that they share (Nadeau and Bengio, 2003). No figure is "
            "a promise for other data."
        )
        + "<details><summary>Limits that decide, all of them this library's "
        "own choice</summary>"
        + table(["limit", "value", "what it is"], limits, texts=[2])
        + "</details>"
        + _text(f"{made}; {record['seconds']:,.0f} s of training.", "faint")
    )
