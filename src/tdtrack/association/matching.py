"""One-to-one assignment in which staying alone has a price."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tdtrack.association.kalman import Floats
from tdtrack.types import IntArray

__all__ = ["assign", "assign_pairs", "unmatched"]


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


def assign_pairs(row: IntArray, column: IntArray, cost: Floats, ceiling: float) -> IntArray:
    """Do the same where few of all pairs are possible: memory and time go with those, not with rows times columns.

    Pairs that no chain of shared rows and columns connects do not compete, so each cluster is a problem of its own.

    Args:
        row: ``(K,)`` of each possible pair, no pair twice.
        column: ``(K,)`` of each possible pair.
        cost: ``(K,)``.
        ceiling: as for :func:`assign`.

    Returns:
        ``(P,)`` which of the possible pairs are chosen, ascending.
    """
    good = np.flatnonzero(cost < ceiling)
    if len(good) == 0:
        return np.zeros(0, np.int64)
    rows, columns = row[good], column[good]
    count = int(rows.max()) + 1
    nodes = count + int(columns.max()) + 1
    graph = coo_array((np.ones(len(good), np.int8), (rows, count + columns)), shape=(nodes, nodes))
    cluster = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(cluster, kind="stable")
    chosen = []
    for members in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1):
        row_of, which_row = np.unique(rows[members], return_inverse=True)
        column_of, which_column = np.unique(columns[members], return_inverse=True)
        dense = np.full((len(row_of), len(column_of)), np.inf)
        dense[which_row, which_column] = cost[good[members]]
        place = np.zeros(dense.shape, np.int64)
        place[which_row, which_column] = good[members]
        chosen.append(place[assign(dense, ceiling)])
    return np.sort(np.concatenate(chosen))


def unmatched(count: int, matched: IntArray) -> IntArray:
    """Return the indices in ``[0, count)`` that are not in ``matched``, ascending."""
    alone = np.ones(count, bool)
    alone[matched] = False
    return np.flatnonzero(alone)
