"""Assignment with a ceiling against every partial matching, and against the extended problem it stands for."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.optimize import linear_sum_assignment

from tdtrack.association.matching import assign, assign_pairs, unmatched

entry = st.one_of(
    st.floats(0, 2), st.sampled_from([0.0, 0.25, 0.4, 0.5, 1.0, float("inf")]), st.just(float("nan")), st.floats(-1, 0)
)
matrices = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=4), elements=entry)
ceilings = st.sampled_from([0.15, 0.4, 0.5, 0.7])


def total(cost: np.ndarray, rows: tuple[int, ...], columns: tuple[int, ...], ceiling: float) -> float:
    alone = sum(cost.shape) - 2 * len(rows)
    return float(sum(cost[row, column] for row, column in zip(rows, columns)) + alone * ceiling / 2)


def cheapest(cost: np.ndarray, ceiling: float) -> float:
    free = np.where(np.isnan(cost), np.inf, cost)
    return min(
        total(free, rows, columns, ceiling)
        for size in range(min(cost.shape) + 1)
        for rows in combinations(range(cost.shape[0]), size)
        for columns in permutations(range(cost.shape[1]), size)
    )


@given(matrices, ceilings)
@settings(max_examples=150, deadline=None)
def test_no_partial_matching_is_cheaper(cost: np.ndarray, ceiling: float) -> None:
    rows, columns = assign(cost, ceiling)
    assert len(set(rows.tolist())) == len(rows) == len(set(columns.tolist()))
    assert sorted(rows.tolist()) == rows.tolist()
    assert (cost[rows, columns] < ceiling).all()
    assert np.isclose(total(cost, tuple(rows), tuple(columns), ceiling), cheapest(cost, ceiling), atol=1e-9)


@given(st.integers(1, 25), st.integers(1, 25), ceilings, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_equals_the_extended_square_problem(tracks: int, detections: int, ceiling: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    cost = random.random((tracks, detections))
    cost[random.random(cost.shape) < 0.5] = np.inf

    extended = np.full((tracks + detections, tracks + detections), ceiling / 2)
    extended[tracks:, detections:] = 0
    extended[:tracks, :detections] = np.where(np.isinf(cost), 1e6, cost)
    rows, columns = linear_sum_assignment(extended)
    inside = (rows < tracks) & (columns < detections)

    ours = assign(cost, ceiling)
    assert np.array_equal(ours[0], rows[inside])
    assert np.array_equal(ours[1], columns[inside])


@given(st.integers(0, 20), st.sets(st.integers(0, 19)))
def test_unmatched_is_the_rest(count: int, matched: set[int]) -> None:
    inside = {index for index in matched if index < count}
    assert unmatched(count, np.array(sorted(inside), np.int64)).tolist() == [i for i in range(count) if i not in inside]


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.floats(0.02, 1.0))
def test_few_possible_pairs_are_chosen_as_from_the_whole_matrix(seed: int, rows: int, columns: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    cost = np.where(rng.random((rows, columns)) < share, rng.normal(size=(rows, columns)), np.inf)
    row, column = np.nonzero(np.isfinite(cost))
    shuffled = rng.permutation(len(row))
    row, column = row[shuffled], column[shuffled]
    ceiling = float(rng.normal(scale=0.5))
    chosen = assign_pairs(row, column, cost[row, column], ceiling)
    wanted = assign(cost, ceiling)
    assert sorted(zip(row[chosen], column[chosen])) == sorted(zip(*wanted))
