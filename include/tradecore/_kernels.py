"""Exact integer arithmetic for every other kernel: products beyond 2**63 avoided by splitting the dividend."""

from __future__ import annotations

from numba import njit

# How a kernel is compiled that works in the arrays that it is given. Without `_nrt` nothing is counted in and out: else
# each call of a kernel counts each array of the records that it passes on, by an atomic operation, which took nine
# tenths of a fold. What allocates does not compile so. An error model without exceptions: divisors are above 0.
kernel = njit(cache=True, error_model="numpy", _nrt=False)
# The same, written out wherever it is called: a book passed on is a hundred arguments, which cost more than the work.
inlined = njit(cache=True, error_model="numpy", _nrt=False, forceinline=True)


@inlined
def fits(a, b):
    """Tell whether a * b, both >= 0, is surely below 2**63; by a product of floats, which is exact to 1e-15."""
    return float(a) * float(b) < 9.2e18


@kernel
def rest_mul_div(a, b, d):
    """Return quotient and remainder of a * b / d for 0 <= a < d < 2**62, b >= 0, exact for any product."""
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


@inlined
def div_floor(a, b):
    """Return floor(a / b) for a >= 0, b > 0. Below 2**53 the quotient of floats is rounded to less than what it lacks
    to the next whole number, 1 / b at least, and takes half the time."""
    if a < 9_007_199_254_740_992 and b < 9_007_199_254_740_992:
        return int(float(a) / float(b))
    return a // b


@inlined
def mul_div_floor(a, b, d):
    """Return floor(a * b / d) for a, b >= 0, 0 < d < 2**62, exact while the result stays below 2**63."""
    if fits(a, b):
        return a * b // d
    q, _ = rest_mul_div(a % d, b, d)
    return (a // d) * b + q


@inlined
def mul_div_round(a, b, d):
    """Return a * b / d rounded half away from zero, for any sign of a; b >= 0; same bounds as above."""
    if a < 0:
        return -mul_div_round_abs(-a, b, d)
    return mul_div_round_abs(a, b, d)


@inlined
def mul_div_round_abs(a, b, d):
    """Return a * b / d rounded half up for a, b >= 0."""
    if fits(a, b):
        q = a * b // d
        return q + (1 if 2 * (a * b - q * d) >= d else 0)
    q, r = rest_mul_div(a % d, b, d)
    return (a // d) * b + q + (1 if 2 * r >= d else 0)


@inlined
def trunc_to(a, step):
    """Return a cut toward zero to a multiple of step > 0; whole shares, the usual step, by a constant."""
    if step == 1_000_000:
        return -(-a // 1_000_000 * 1_000_000) if a < 0 else a // 1_000_000 * 1_000_000
    if step == 1:
        return a
    return -((-a) // step * step) if a < 0 else a // step * step


@kernel
def mul_div_trunc(a, b, d):
    """Return a * b / d cut toward zero, for any sign of a; b >= 0, d > 0."""
    return -mul_div_floor(-a, b, d) if a < 0 else mul_div_floor(a, b, d)
