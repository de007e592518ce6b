"""One-to-one assignment in which staying alone has a price."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from tdtrack.association.kalman import Floats
from tdtrack.types import IntArray

__all__ = ["assign", "unmatched"]


def assign(cost: Floats, ceiling: float) -> tuple[IntArray, IntArray]:
    """Find the cheapest one-to-one assignment, where every row or column left alone costs half the ceiling.

    A pair therefore pays off exactly when it costs less than the ceiling, but all pairs are chosen together: this is
    not an assignment whose expensive pairs are cut afterwards.

    It is the extended problem of lap's ``cost_limit``, a square matrix of rows + columns, solved without building
    it. With k pairs the total is ``sum(cost) + (rows + columns - 2 k) * ceiling / 2``, which is, up to a constant,
    ``sum(cost - ceiling)`` over the pairs; so a pair at or above the ceiling is never better than none, and costs
    may be cut there before the plain rectangular problem is solved.

    Args:
        cost: ``(T, N)``; infinite or NaN forbids a pair.
        ceiling: cost from which a pair is no better than none; finite.

    Returns:
        Rows and columns of the pairs, each ``(P,)``, rows ascending; empty where nothing pays off.

    Source:
        FairMOT, through ``lap.lapjv(extend_cost=True, cost_limit=ceiling)``.
    """
    capped = np.where(cost < ceiling, cost, ceiling)
    rows, columns = linear_sum_assignment(capped)
    pays_off = capped[rows, columns] < ceiling
    return rows[pays_off].astype(np.int64), columns[pays_off].astype(np.int64)


def unmatched(count: int, matched: IntArray) -> IntArray:
    """Return the indices in ``[0, count)`` that are not in ``matched``, ascending."""
    alone = np.ones(count, bool)
    alone[matched] = False
    return np.flatnonzero(alone)
