"""Shamir's secret sharing: polynomials over the scalars, and their value at 0 from any t points (CACM 1979)."""

from collections.abc import Collection, Mapping, Sequence
from random import Random

from nymtw.credentials.curve import ONE, ZERO, P, Scalar, random_scalar, sum_of_products


def random_polynomial(threshold: int, random: Random) -> tuple[Scalar, ...]:
    """`threshold` coefficients, that of degree 0 first: it is the secret."""
    return tuple(random_scalar(random) for _ in range(threshold))


def evaluate(coefficients: Sequence[Scalar], at: int) -> Scalar:
    """The polynomial's value."""
    value, place = ZERO, Scalar(at)
    for coefficient in reversed(coefficients):
        value = value * place + coefficient
    return value


def powers(at: int, count: int) -> list[Scalar]:
    """1, at, at squared and so on, `count` of them: a committed polynomial is evaluated with these."""
    values, place = [ONE], Scalar(at)
    while len(values) < count:
        values.append(values[-1] * place)
    return values[:count]


def lagrange_at_zero(indices: Collection[int]) -> dict[int, Scalar]:
    """The weight of each share in the value at 0. Raises `ValueError` unless the indices are distinct and above 0."""
    if not indices or len(set(indices)) != len(indices) or min(indices) < 1:
        raise ValueError("indices of shares are distinct and above 0")
    weights = {}
    for index in indices:
        above, below = ONE, ONE
        for other in indices:
            if other != index:
                above = above * Scalar(other)
                below = below * (Scalar(other) - Scalar(index))
        weights[index] = above / below
    return weights


def interpolate(points: Mapping[int, P]) -> P:
    """The value at 0, in the exponent, from the values at the indices."""
    weights = lagrange_at_zero(points.keys())
    return sum_of_products(list(points.values()), [weights[index] for index in points])
