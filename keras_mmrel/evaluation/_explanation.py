"""A decision about one sample, in words."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_mmrel.contract import CONFIDENCE

MOST_CLASSES = 5


def explain_decision(
    outputs: Mapping[str, Any],
    names: Sequence[str],
    class_names: Sequence[str] | None,
    limits: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a dict that JSON takes, with a sentence that says the same.

    Args:
        outputs: What the decision returned for one sample, without the batch.
        names: Names of the modalities.
        class_names: Names of the classes, if there are any.
        limits: `probability`, above which a prediction is accepted or `None`
            if none is; `confidence` and `excess`, modality name -> limit or
            `None`; and `group`, the sample's, or `None`.
    """
    label = int(outputs["label"])
    members = [c for c, held in enumerate(outputs["prediction_set"]) if held]
    found: dict[str, Any] = {
        "accepted": bool(outputs["accept"]),
        "label": label,
        "class": _class(label, class_names),
        "probability": float(outputs["probability"]),
        "probability_limit": limits["probability"],
        "prediction_set": [_class(c, class_names) for c in members],
        "group": limits["group"],
        "modalities": {
            name: {
                "confidence": float(outputs[CONFIDENCE][index]),
                "confidence_limit": limits["confidence"][name],
                "suspect": bool(outputs["suspect"][index]),
                "missing": bool(outputs["missing"][index]),
                "out_of_range": bool(outputs["out_of_range"][index]),
            }
            for index, name in enumerate(names)
        },
    }
    found["sentence"] = _sentence(found)
    return found


def _class(number: int, class_names: Sequence[str] | None) -> int | str:
    return number if class_names is None else class_names[number]


def _sentence(found: Mapping[str, Any]) -> str:
    parts = [_verdict(found)]
    for name, modality in found["modalities"].items():
        parts += [f"modality '{name}' {text}" for text in _remarks(modality)]
    return "; ".join(parts)


def _verdict(found: Mapping[str, Any]) -> str:
    p, limit = found["probability"], found["probability_limit"]
    if found["accepted"]:
        return f"accepted: {_named(found['class'])}, {_number(p)}"
    possible = found["prediction_set"]
    text = f"abstained: perhaps {_named(found['class'])}, {_number(p)}"
    if all(m["missing"] for m in found["modalities"].values()):
        text += ", but every modality is missing"
    elif limit is None:
        text += ", but no limit keeps the risk that was asked for"
    else:
        # As many decimals as tell the two apart.
        digits = next(
            (d for d in range(2, 8) if f"{p:.{d}f}" != f"{limit:.{d}f}"), 2
        )
        text = (
            f"abstained: perhaps {_named(found['class'])}, {p:.{digits}f}, "
            f"not above the limit {limit:.{digits}f}"
        )
    if len(possible) > MOST_CLASSES:
        return f"{text}; {len(possible)} classes are possible"
    return f"{text}; possible: {', '.join(str(c) for c in possible)}"


def _remarks(modality: Mapping[str, Any]) -> list[str]:
    if modality["missing"]:
        return ["is missing"]
    remarks = []
    if modality["suspect"]:
        confidence, limit = modality["confidence"], modality["confidence_limit"]
        remarks.append(
            f"is suspect: confidence {_number(confidence)} under its limit "
            f"{_number(limit)}"
        )
    if modality["out_of_range"]:
        remarks.append("is out of the range of the calibration samples")
    return remarks


def _named(name: int | str) -> str:
    return f"class {name}" if isinstance(name, int) else f"'{name}'"


def _number(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else f"{value:.2g}"
