"""Coalitions of modalities and the weights that make Shapley values."""

import functools
import itertools
import math

import numpy as np

from keras_mmrel.contract import Array

LARGEST_EXACT = 6
ORDERINGS = 64


@functools.cache
def shapley_weights(count: int) -> tuple[Array, Array]:
    """Return coalitions and the matrix from their values to Shapley values.

    Up to 6 players all coalitions are there and the values are exact. Beyond,
    they are means over 64 random orderings and their reverses, the same ones
    in every call. In both cases they add up to the value of all players.

    Args:
        count: Number of players (modalities).

    Returns:
        `members` of shape `(coalitions, count)` in {0, 1}, without the empty
        coalition, whose value is 0, and `weights` of shape
        `(count, coalitions)`, both in float32.
    """
    if count <= LARGEST_EXACT:
        chosen = [
            frozenset(c)
            for size in range(1, count + 1)
            for c in itertools.combinations(range(count), size)
        ]
        orderings = None
    else:
        rng = np.random.default_rng(0)
        drawn = [rng.permutation(count) for _ in range(ORDERINGS)]
        orderings = [o for order in drawn for o in (order, order[::-1])]
        prefixes = {
            frozenset(order[:size].tolist())
            for order in orderings
            for size in range(1, count + 1)
        }
        chosen = sorted(prefixes, key=lambda c: (len(c), sorted(c)))
    column = {c: index for index, c in enumerate(chosen)}
    members = np.zeros((len(chosen), count), "float32")
    for c, index in column.items():
        members[index, list(c)] = 1.0
    weights = np.zeros((count, len(chosen)))

    def add(player: int, before: frozenset[int], weight: float) -> None:
        weights[player, column[before | {player}]] += weight
        if before:
            weights[player, column[before]] -= weight

    if orderings is None:
        for player in range(count):
            for before in [frozenset(), *chosen]:
                if player not in before:
                    size = len(before)
                    orders = math.comb(count - 1, size) * count
                    add(player, before, 1.0 / orders)
    else:
        for order in orderings:
            for position, player in enumerate(order.tolist()):
                before = frozenset(order[:position].tolist())
                add(player, before, 1.0 / len(orderings))
    return members, weights.astype("float32")
