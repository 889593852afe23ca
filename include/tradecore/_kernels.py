"""Exact integer arithmetic for every other kernel: products beyond 2**63 avoided by splitting the dividend."""

from __future__ import annotations

from numba import njit


@njit(cache=True)
def mul_div_floor(a, b, d):
    """Return floor(a * b / d) for a >= 0, b >= 0, d > 0, exact while d * b and the result stay below 2**63."""
    return (a // d) * b + ((a % d) * b) // d


@njit(cache=True)
def mul_div_round(a, b, d):
    """Return a * b / d rounded half away from zero, for any sign of a; b >= 0, d > 0; same bounds as above."""
    if a < 0:
        return -mul_div_round_abs(-a, b, d)
    return mul_div_round_abs(a, b, d)


@njit(cache=True)
def mul_div_round_abs(a, b, d):
    """Return a * b / d rounded half up for a, b >= 0."""
    rest = (a % d) * b
    return (a // d) * b + (rest + d // 2) // d if d % 2 == 0 else (a // d) * b + (2 * rest + d) // (2 * d)


@njit(cache=True)
def trunc_to(a, step):
    """Return a cut toward zero to a multiple of step > 0."""
    return -((-a) // step * step) if a < 0 else a // step * step


@njit(cache=True)
def mul_div_trunc(a, b, d):
    """Return a * b / d cut toward zero, for any sign of a; b >= 0, d > 0."""
    return -mul_div_floor(-a, b, d) if a < 0 else mul_div_floor(a, b, d)
