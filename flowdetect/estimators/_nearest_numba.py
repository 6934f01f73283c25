"""Nearest rows by comparison with all of them, compiled by numba."""

from typing import Any

import numpy as np

from flowdetect._utils.jit import cached

__all__ = ["LANES", "nearest"]

# Points side by side in memory, whose distances are added up in one go.
LANES = 8
_BLOCK = 16


@cached
def nearest(
    queries: Any,
    packed: Any,
    n_points: int,
    alike: float,
    squares: Any,
    positions: Any,
    first: int,
    last: int,
) -> None:
    """Find the nearest points of the queries from ``first`` to ``last``, the one that is the query left out.

    Parameters
    ----------
    queries : array of shape (n_queries, n_coordinates)
    packed : array of shape (n_blocks, n_coordinates, 8)
        The points, eight in a block; the last block may hold more than there are.
    n_points : int
        Number of points.
    alike : float
        Squared distance up to which a point may be the query itself.
    squares, positions : arrays of shape (n_queries, k)
        Filled with squared distances, ascending, and positions among the points; of equal distances the
        first point comes first. The first point alike is taken to be the query itself.
    """
    n_blocks, width, _ = packed.shape
    k = squares.shape[1]
    total = np.empty(LANES)
    for q in range(first, last):
        squares[q, :] = np.inf
        positions[q, :] = 0
        itself = False
        for block in range(n_blocks):
            limit = squares[q, k - 1]
            t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = 0.0
            start = 0
            far = False
            while start < width and not far:
                stop = min(start + _BLOCK, width)
                for j in range(start, stop):
                    x = queries[q, j]
                    d0, d1 = x - packed[block, j, 0], x - packed[block, j, 1]
                    d2, d3 = x - packed[block, j, 2], x - packed[block, j, 3]
                    d4, d5 = x - packed[block, j, 4], x - packed[block, j, 5]
                    d6, d7 = x - packed[block, j, 6], x - packed[block, j, 7]
                    t0, t1, t2, t3 = t0 + d0 * d0, t1 + d1 * d1, t2 + d2 * d2, t3 + d3 * d3
                    t4, t5, t6, t7 = t4 + d4 * d4, t5 + d5 * d5, t6 + d6 * d6, t7 + d7 * d7
                start = stop
                far = min(min(min(t0, t1), min(t2, t3)), min(min(t4, t5), min(t6, t7))) > limit
            if far:
                continue
            total[0], total[1], total[2], total[3] = t0, t1, t2, t3
            total[4], total[5], total[6], total[7] = t4, t5, t6, t7
            for lane in range(min(LANES, n_points - LANES * block)):
                square = total[lane]
                if not square < squares[q, k - 1]:
                    continue
                if square <= alike and not itself:
                    itself = True
                    continue
                slot = k - 1
                while slot > 0 and squares[q, slot - 1] > square:
                    squares[q, slot] = squares[q, slot - 1]
                    positions[q, slot] = positions[q, slot - 1]
                    slot -= 1
                squares[q, slot] = square
                positions[q, slot] = LANES * block + lane
