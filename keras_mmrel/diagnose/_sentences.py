"""What a diagnosis says in words, each sentence with its number."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_mmrel.diagnose._rows import DEFAULT
from keras_mmrel.diagnose._rows import LATE
from keras_mmrel.diagnose._rows import alone
from keras_mmrel.diagnose.finding import Finding

Cell = Mapping[str, float | None]


def percent(cell: Cell, sign: bool = False) -> str:
    """Mean and error in percent."""
    mean, error = cell["mean"], cell["error"]
    if mean is None:
        return "unknown"
    text = f"{100 * mean:{'+' if sign else ''}.1f}"
    return f"{text} ± {100 * error:.1f}" if error is not None else text


def sentences(
    record: Mapping[str, Any], findings: Sequence[Finding]
) -> list[str]:
    """Return the summary."""
    said = [_of_findings(findings), *recommendation(record)]
    said += [_alone(record), *_balance(record), *_redundant(record)]
    said += [_weakest(record), _final(record)]
    said.append(_suspects(record, findings))
    return [s for s in said if s]


def _of_findings(findings: Sequence[Finding]) -> str:
    count = {
        level: sum(f.level == level for f in findings)
        for level in ("error", "warning", "note")
    }
    if not findings:
        return "Nothing is wrong with the data that the checks look for."
    worst = next(
        f
        for level in ("error", "warning", "note")
        for f in findings
        if f.level == level
    )
    told = ", ".join(
        f"{n} {level}{'s' * (n > 1)}" for level, n in count.items() if n
    )
    return f"The checks of the data found {told}. {worst.text}"


def recommendation(record: Mapping[str, Any]) -> list[str]:
    """Return what is recommended, and why."""
    chosen = record["recommendation"]
    clean, corrupted = chosen["clean"], chosen["corrupted"]
    said = [_choice(clean, "inputs as good as these")]
    if corrupted["method"] == clean["method"]:
        said.append(
            f"The same for inputs that are noisy, missing or mixed up: "
            f"{percent(corrupted['accuracy'])} % over all corruptions, "
            f"{percent(corrupted['ahead_of_late_fusion'], True)} points to "
            "late fusion."
            if clean["method"] != LATE
            else "Nor is any ahead where inputs are noisy, missing or mixed "
            f"up: {percent(corrupted['accuracy'])} % over all corruptions."
        )
    else:
        said.append(
            _choice(corrupted, "inputs that are noisy, missing or mixed up")
        )
    return said


def _choice(chosen: Mapping[str, Any], inputs: str) -> str:
    method, best = chosen["method"], chosen["best"]
    rate = chosen["learning_rate"]
    head = f"For {inputs} take {method} (learning rate {rate:g})"
    if method == LATE and best == LATE:
        return (
            f"{head}: none of the other methods beats late fusion here, "
            f"{percent(chosen['accuracy'])} %."
        )
    if method == LATE:
        return (
            f"{head}: none beats late fusion here. The best mean, of {best}, "
            f"is {percent(chosen['best_ahead'], True)} points away, which is "
            "within one error."
        )
    lead = percent(chosen["ahead_of_late_fusion"], True)
    text = (
        f"{head}: {percent(chosen['accuracy'])} %, {lead} points to late fusion"
    )
    if best != method and method == DEFAULT:
        text += (
            f"; it is what the library takes by default, and {best} is not "
            f"clearly ahead of it ({percent(chosen['best_ahead'], True)})"
        )
    elif best != method:
        text += (
            f"; the best mean, of {best}, is within one error of it "
            f"({percent(chosen['best_ahead'], True)}) and less simple"
        )
    return text + "."


def _alone(record: Mapping[str, Any]) -> str:
    accuracy = record["accuracy"]
    names = [m["name"] for m in record["data"]["modalities"]]
    ranked = sorted(names, key=lambda n: -(accuracy[alone(n)]["mean"] or 0.0))
    told = ", ".join(f"'{n}' {percent(accuracy[alone(n)])}" for n in ranked)
    method = record["recommendation"]["clean"]["method"]
    return (
        f"Accuracy alone (%): {told}; together, by {method}, "
        f"{percent(accuracy[method])}."
    )


def _balance(record: Mapping[str, Any]) -> list[str]:
    behind = [n for n, b in record["balance"].items() if b["under_trained"]]
    if not record["balance"]:
        return []
    if not behind:
        return [
            "Joint training leaves no modality behind: each encoder knows as "
            "much of the classes as one that is trained alone."
        ]
    return [
        f"Joint training leaves '{n}' behind: its encoder reaches "
        f"{percent(record['balance'][n]['inside'])} %, one that is trained "
        f"alone {percent(record['balance'][n]['alone'])}."
        for n in behind
    ]


def _redundant(record: Mapping[str, Any]) -> list[str]:
    found = []
    for name, left in record["redundancy"]["without"].items():
        if left["redundant"]:
            found.append(
                f"Without '{name}' nothing is lost that these data can show: "
                f"{percent(left['lost'], True)} points."
            )
    return found


def _weakest(record: Mapping[str, Any]) -> str:
    """The corruption that costs the recommended method most."""
    method = record["recommendation"]["clean"]["method"]
    table = {
        name: rows[method]
        for name, rows in record["corruptions"].items()
        if rows[method]["mean"] is not None
    }
    if not table:
        return ""
    worst = min(table, key=lambda n: table[n]["mean"])
    kind, _, what = worst.partition(": ")
    return (
        f"What hurts {method} most is '{what}' {kind}: "
        f"{percent(table[worst])} %, from {percent(table['clean'])}."
    )


def _suspects(record: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    """How many samples are listed, and whether that is many."""
    listed = record["suspects"]
    if not listed:
        return "No sample is contradicted by its modalities."
    head = (
        f"{len(listed)} sample{'s' * (len(listed) > 1)} to look at "
        f"{'are' if len(listed) > 1 else 'is'} listed, the first is row "
        f"{listed[0]['row']}"
    )
    if any(f.kind in ("contradiction", "wrong_label") for f in findings):
        return f"{head}; there are more than chance explains."
    return f"{head}; there are no more than chance explains."


def _final(record: Mapping[str, Any]) -> str:
    test = record["test"]
    row = record["recommendation"]["clean"]["row"]
    cell = test["methods"][row]
    error = cell["error"]
    text = (
        f"On the {test['samples']} samples of the test part, which have "
        f"chosen nothing, {row} is right in {100 * cell['accuracy']:.1f}"
    )
    text += f" ± {100 * error:.1f}" if error is not None else ""
    if cell.get("ahead_of_late_fusion") is not None:
        text += (
            f" %, {100 * cell['ahead_of_late_fusion']:+.1f} ± "
            f"{100 * (cell['ahead_error'] or 0):.1f} points to late fusion"
        )
        return text + "."
    return text + " %."
