from typing import NamedTuple


class SeenValues(NamedTuple):
    """What a side input was in all batches of an epoch.

    Args:
        samples: Number of samples.
        smallest: Smallest finite value.
        largest: Largest finite value.
        broken: Largest one that is no whole number, or `None`.
        finite: Whether all were numbers.
    """

    samples: int
    smallest: float
    largest: float
    broken: float | None
    finite: bool
