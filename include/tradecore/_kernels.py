"""Exact integer arithmetic for every other kernel: products beyond 2**63 avoided by splitting the dividend."""

from __future__ import annotations

from numba import njit

MAX = 2**63 - 1


@njit(cache=True)
def rest_mul_div(a, b, d):
    """Return quotient and remainder of a * b / d for 0 <= a < d < 2**62, b >= 0, exact for any product."""
    if b == 0 or a <= MAX // b:
        return a * b // d, a * b % d
    q = 0
    r = 0
    for bit in range(62, -1, -1):
        q *= 2
        r *= 2
        if r >= d:
            r -= d
            q += 1
        if (b >> bit) & 1:
            r += a
            if r >= d:
                r -= d
                q += 1
    return q, r


@njit(cache=True)
def mul_div_floor(a, b, d):
    """Return floor(a * b / d) for a, b >= 0, 0 < d < 2**62, exact while the result stays below 2**63."""
    q, _ = rest_mul_div(a % d, b, d)
    return (a // d) * b + q


@njit(cache=True)
def mul_div_round(a, b, d):
    """Return a * b / d rounded half away from zero, for any sign of a; b >= 0; same bounds as above."""
    if a < 0:
        return -mul_div_round_abs(-a, b, d)
    return mul_div_round_abs(a, b, d)


@njit(cache=True)
def mul_div_round_abs(a, b, d):
    """Return a * b / d rounded half up for a, b >= 0."""
    q, r = rest_mul_div(a % d, b, d)
    return (a // d) * b + q + (1 if 2 * r >= d else 0)


@njit(cache=True)
def trunc_to(a, step):
    """Return a cut toward zero to a multiple of step > 0."""
    return -((-a) // step * step) if a < 0 else a // step * step


@njit(cache=True)
def mul_div_trunc(a, b, d):
    """Return a * b / d cut toward zero, for any sign of a; b >= 0, d > 0."""
    return -mul_div_floor(-a, b, d) if a < 0 else mul_div_floor(a, b, d)
