"""Exact integer arithmetic for every other kernel: products beyond 2**63 avoided by splitting the dividend."""

from __future__ import annotations

from numba import config, njit
from numba.core import cgutils, types
from numba.extending import intrinsic

PLAIN_PYTHON = bool(config.DISABLE_JIT)  # as tests/mutants.py runs kernels
# How a kernel is compiled that works in the arrays that it is given. Without `_nrt` nothing is counted in and out: else
# each call of a kernel counts each array of the records that it passes on, by an atomic operation, which took nine
# tenths of a fold. What allocates does not compile so. An error model without exceptions: divisors are above 0.
kernel = njit(cache=True, error_model="numpy", _nrt=False)
# The same, written out wherever it is called: a book passed on is a hundred arguments, which cost more than the work.
inlined = njit(cache=True, error_model="numpy", _nrt=False, forceinline=True)


@intrinsic
def prefetch(context, array, i):
    """Ask for the memory of element i of an array [n] without waiting for it: a hint, which changes nothing."""

    def code(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        number = cgutils.int32_t
        kind = cgutils.ir.FunctionType(cgutils.ir.VoidType(), [data.type, number, number, number])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(call, [builder.gep(data, [arguments[1]]), number(0), number(2), number(1)])
        return context.get_dummy_value()

    return types.none(array, types.intp), code


@inlined
def prefetch_row(row):
    """Ask for a row [n] of eight bytes each, a line of eight at a time; in plain Python there is nobody to ask."""
    for i in range(0, row.shape[0], 8):
        if not PLAIN_PYTHON:
            prefetch(row, i)


@inlined
def index(i):
    """Return i, which is not below 0, so that the compiler knows it: no index of ours counts from the end."""
    return i & 0x7FFF_FFFF_FFFF_FFFF


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
def quotient(a, d):
    """Return floor(a / d) for a in 0..2**63, d > 0 and a quotient below 2**50. Without a branch, so that a loop over
    names takes several at once: by floats it is off by one at most, and what it leaves tells which way."""
    q = int(float(a) * (1.0 / float(d)))
    rest = a - q * d
    return q + (rest >= d) - (rest < 0)


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
def mul_div_ceil(a, b, d):
    """Return a * b / d rounded up for a, b >= 0; same bounds as above."""
    if fits(a, b):
        q = a * b // d
        return q + (1 if a * b - q * d > 0 else 0)
    q, r = rest_mul_div(a % d, b, d)
    return (a // d) * b + q + (1 if r > 0 else 0)


@inlined
def trunc_to(a, step):
    """Return a cut toward zero to a multiple of step > 0; whole shares, the usual step, by a constant."""
    if step == 1_000_000:
        return -(-a // 1_000_000 * 1_000_000) if a < 0 else a // 1_000_000 * 1_000_000
    if step == 1:
        return a
    return -((-a) // step * step) if a < 0 else a // step * step


@inlined
def mul_div(a, b, d, wide):
    """Return floor(a * b / d) for a, b >= 0. wide None, which the compiler sees: as `quotient`, else any product."""
    if wide is None:
        return quotient(a * b, d)
    return mul_div_floor(a, b, d)


@inlined
def mul_div_half_up(a, b, d, wide):
    """Return a * b / d rounded half up for a, b >= 0 and an even d; wide as in `mul_div`."""
    if wide is None:
        return quotient(a * b + d // 2, d)
    return mul_div_round_abs(a, b, d)


@inlined
def to_step(a, step, wide):
    """Return a >= 0 cut to a multiple of step > 0; wide as in `mul_div`."""
    if wide is None:
        return quotient(a, step) * step
    return trunc_to(a, step)


@kernel
def mul_div_trunc(a, b, d):
    """Return a * b / d cut toward zero, for any sign of a; b >= 0, d > 0."""
    return -mul_div_floor(-a, b, d) if a < 0 else mul_div_floor(a, b, d)
