"""Every limit of a diagnosis, by name: all are this library's own choice."""

import types
from collections.abc import Mapping
from typing import NamedTuple


class Limit(NamedTuple):
    """A number, and what it decides."""

    value: float
    meaning: str


LIMITS: Mapping[str, Limit] = types.MappingProxyType(
    {
        "scale_ratio": Limit(
            1000,
            "times that the spread of one feature or modality may be that of "
            "another before their scales count as different",
        ),
        "repeated_rows": Limit(
            0.005,
            "fraction of the rows, and at least five, that must hold the "
            "very same values of a modality to count as a mark of a missing "
            "one, where nine tenths of the other rows differ (half of them, "
            "if the values are zeros)",
        ),
        "stuck_run": Limit(
            0.05,
            "fraction of the rows, and at least 10, in which a feature must "
            "stand still in one piece to count as stuck, where nine tenths "
            "of its other values differ",
        ),
        "near_duplicate": Limit(
            0.1,
            "times the median distance of a sample to its nearest other one "
            "(features standardized, modalities of equal weight) below which "
            "two samples are near duplicates; not looked for with fewer than "
            "ten features",
        ),
        "small_class": Limit(
            10, "samples below which a class is too small to be measured"
        ),
        "imbalance": Limit(
            10, "times that the largest class may be the smallest"
        ),
        "leak": Limit(
            0.98,
            "mean over the classes of the fraction of held-out samples whose "
            "class a decision tree on one feature names, from which on the "
            "feature gives the label away",
        ),
        "sorted_labels": Limit(
            0.2,
            "times the changes of class from row to row that an order by "
            "chance would have, below which rows are sorted",
        ),
        "redundant": Limit(
            0.9,
            "fraction of the variance of a modality's features that a linear "
            "map from another one predicts on held-out rows, from which on "
            "it repeats the other",
        ),
        "suspect_odds": Limit(
            10,
            "odds with which modalities must contradict a label, or each "
            "other, for a sample to be listed; of at least as many "
            "modalities as are named",
        ),
        "contradiction_evidence": Limit(
            10,
            "twice the log-likelihood that it must gain to take some of a "
            "modality's files for other samples', for a finding",
        ),
        "contradiction_share": Limit(
            0.01, "fraction of the samples that such files are, at least"
        ),
        "contradiction_accuracy": Limit(
            0.7,
            "accuracy of a modality, where the others side with the label, "
            "below which wrong files cannot be told from its mistakes",
        ),
        "wrong_labels": Limit(
            5, "labels that are contradicted, at least, for a finding"
        ),
        "wrong_label_excess": Limit(
            4,
            "times the number of contradicted labels that all modalities "
            "together lead one to expect (and two of its deviations), above "
            "which they are a finding",
        ),
        "under_trained": Limit(
            0.01,
            "accuracy, and at least one corrected error, that an encoder must "
            "be behind the one trained alone to count as under-trained",
        ),
        "ahead": Limit(
            1,
            "corrected errors that a method must be ahead of a simpler one "
            "to be preferred",
        ),
        "default": Limit(
            2,
            "corrected errors that a method must be ahead of ReliableFusion "
            "to be preferred to it",
        ),
    }
)


def limit(name: str) -> float:
    """Return a limit by its name."""
    return LIMITS[name].value
