"""Monotone fits: isotonic regression, and linear scores whose weights are never negative."""

from collections.abc import Callable

import numpy as np

BINS = 64  # at most so many knots per curve
RIDGE = 1e-3
ITERATIONS = 50


def isotonic(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None,
             median: bool = False, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """
    Fit the rising curve nearest to points in the sense of least squares.

    The points are first averaged in bins of equal weight; pools of bins that would fall become
    one knot at their mean, so that between knots the curve can be interpolated linearly.

    :param x: (N,), N > 0, finite; y too.
    :param weights: (N,), > 0; all 1 when None.
    :param median: take the median of every bin, whatever the weights, instead of its mean.
    :returns: knots: x strictly rising, y never falling, both (K,), K <= bins.
    """
    order = np.argsort(x, kind='stable')
    x, y = np.asarray(x, float)[order], np.asarray(y, float)[order]
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, float)[order]
    # Equal x are one point: a bin never parts them.
    _, point = np.unique(x, return_inverse=True)
    middle = np.cumsum(weights) - weights / 2
    first = np.searchsorted(point, point)  # index of the first of equals
    _, bin_of = np.unique((bins * middle[first] / weights.sum()).astype(int),
                          return_inverse=True)
    size = np.bincount(bin_of, weights)
    level = np.bincount(bin_of, weights * y) / size
    if median:
        level = np.array([np.median(y[bin_of == number]) for number in range(len(size))])
    pools = _pool(np.bincount(bin_of, weights * x) / size, level, size)
    return pools[:, 0], pools[:, 1]


def _pool(x: np.ndarray, y: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Join neighbours until y rises; rows of x, y and size."""
    pools: list[np.ndarray] = []
    for point in np.stack([x, y, size], 1):
        pools.append(point)
        while len(pools) > 1 and pools[-2][1] >= pools[-1][1]:
            last, before = pools.pop(), pools.pop()
            both = before[2] + last[2]
            mean = (before * before[2] + last * last[2]) / both
            pools.append(np.array([mean[0], mean[1], both]))
    return np.array(pools)


def nonnegative_least_squares(columns: np.ndarray, y: np.ndarray) -> np.ndarray:
    """
    Weigh columns so that their sum follows y as closely as weights >= 0 allow.

    :param columns: (N, M).
    :param y: (N,).
    :returns: (M,), >= 0; any constant is left out.
    """
    def fit(part: np.ndarray) -> np.ndarray:
        return _solve(part.T @ part / len(y), part.T @ y / len(y))
    return _nonnegative(fit, columns)


def nonnegative_logistic(columns: np.ndarray, hit: np.ndarray,
                         weights: np.ndarray) -> np.ndarray:
    """
    Weigh columns so that their sum tells hits from misses as well as weights >= 0 allow.

    :param columns: (N, M).
    :param hit: bool, (N,).
    :param weights: of the rows, (N,), > 0.
    :returns: (M,), >= 0: log odds but for a constant.
    """
    share = weights / weights.sum()

    def fit(part: np.ndarray) -> np.ndarray:
        solution = np.zeros(part.shape[1])
        for _ in range(ITERATIONS):  # Newton's
            probability = 1 / (1 + np.exp(-np.clip(part @ solution, -30, 30)))
            gradient = part.T @ (share * (probability - hit)) + RIDGE * solution
            curvature = (part * (share * probability * (1 - probability))[:, None]).T @ part
            move = _solve(curvature, gradient)
            solution = solution - move
            if np.abs(move).max() < 1e-6:
                break
        return solution
    return _nonnegative(fit, columns)


def _solve(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return np.linalg.solve(matrix + RIDGE * np.eye(len(vector)), vector)


def _nonnegative(fit: Callable[[np.ndarray], np.ndarray], columns: np.ndarray) -> np.ndarray:
    """Fit standardised columns and a constant, leaving out those that get a negative weight."""
    spread = np.maximum(columns.std(0), 1e-9)
    scaled = (columns - columns.mean(0)) / spread
    kept = np.ones(columns.shape[1], bool)
    while kept.any():
        found = fit(np.column_stack([scaled[:, kept], np.ones(len(scaled))]))[:-1]
        if (found >= 0).all():
            weights = np.zeros(len(kept))
            weights[kept] = found
            return weights / spread
        kept[np.flatnonzero(kept)[found < 0]] = False
    return np.zeros(columns.shape[1])
