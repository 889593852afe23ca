"""The parameter sets of a sweep, by number: nothing is listed, set k is computed from k.

    grid     every combination of the values, the last parameter fastest
    random   independent uniform draws; set k takes its own block of Philox counters
    sobol    a scrambled Sobol sequence (scipy's qmc): random, but spread evenly

Whatever the chunks, set k is the same. Philox: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC11.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from tradecore.errors import ConfigError
from tradecore.model import Floats

SAMPLES = ("grid", "random", "sobol")
MOST_VALUES = 1_000_000
_WORDS = {"true": True, "false": False}
_COUNTERS_A_DRAW = 4  # Philox 4x64 gives four numbers a counter


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One parameter: its values, or (values empty) all numbers from low to high."""

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def as_record(self) -> dict[str, Any]:
        """Return the axis as JSON-able data; `axis_of` takes it back."""
        if self.values:
            return {"name": self.name, "values": list(self.values)}
        return {"name": self.name, "low": self.low, "high": self.high}

    def corners(self) -> tuple[Any, ...]:
        """Return its extremes: where a look-back can be longest. All values, if they are no numbers."""
        if not self.values:
            return (self.low, self.high)
        numbers = all(isinstance(v, int | float) for v in self.values)
        return (min(self.values), max(self.values)) if numbers else self.values

    def at(self, u: Floats) -> list[Any]:
        """Return the values at fractions u [k] in [0, 1) of the axis."""
        if not self.values:
            return list((self.low + u * (self.high - self.low)).tolist())
        index = np.minimum((u * len(self.values)).astype(np.int64), len(self.values) - 1)
        return [self.values[i] for i in index]


def axis_of(record: Mapping[str, Any]) -> Axis:
    """Return the axis that `as_record` wrote."""
    return Axis(**{**record, "values": tuple(record.get("values", ()))})


def parse_axis(text: str) -> Axis:
    """Read `name=5:50:5` (both ends included), `name=0.1:0.9` (all numbers between), `name=sma,ema` or `name=20`.

    `name=5:50` of whole numbers takes each of them. Raises ConfigError that shows the forms.
    """
    name, _, said = text.partition("=")
    name, parts = name.strip(), [p.strip() for p in said.split(":")]
    if not re.fullmatch(r"[A-Za-z_]\w*", name) or not said.strip():
        raise _no_axis(text, "it is no NAME=VALUES")
    if len(parts) == 1:
        values = tuple(_value(v.strip()) for v in said.split(","))
        if "" in values or len(set(values)) < len(values):
            raise _no_axis(text, "a value is empty or there twice")
        if any(isinstance(v, float) and not math.isfinite(v) for v in values):
            raise _no_axis(text, "a value is no number")
        return Axis(name=name, values=values)
    try:
        numbers = [Decimal(p) for p in parts]
    except InvalidOperation:
        raise _no_axis(text, "a bound is no number") from None
    whole = all(re.fullmatch(r"[+-]?\d+", p) for p in parts)
    if len(parts) > 3 or not all(n.is_finite() for n in numbers) or numbers[1] < numbers[0]:
        raise _no_axis(text, "a range is LOW:HIGH or LOW:HIGH:STEP")
    if len(parts) == 2 and not whole:
        return Axis(name=name, low=float(numbers[0]), high=float(numbers[1]))
    step = numbers[2] if len(parts) == 3 else Decimal(1)
    count = int((numbers[1] - numbers[0]) / step) + 1 if step > 0 else 0
    if not 1 <= count <= MOST_VALUES:
        raise _no_axis(text, f"the step must be above 0 and give at most {MOST_VALUES:,} values")
    exact = [numbers[0] + k * step for k in range(count)]
    return Axis(name=name, values=tuple(int(v) if whole else float(v) for v in exact))


def _no_axis(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"--param {text!r}: {why}.",
        next_step="write it as short_period=5:50:5, threshold=0.1:0.9, average=sma,ema or short_period=20",
        value=text,
    )


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def grid_size(axes: Sequence[Axis]) -> int:
    """Return how many combinations there are. Raises ConfigError for an axis without steps."""
    for axis in axes:
        if not axis.values:
            raise ConfigError(
                f"a grid needs the values of {axis.name}; {axis.low:g}:{axis.high:g} is every number between.",
                next_step=f"add a step ({axis.name}={axis.low:g}:{axis.high:g}:STEP), or --sample sobol --n 1000",
                parameter=axis.name,
            )
    return math.prod(len(axis.values) for axis in axes)


def columns(axes: Sequence[Axis], sample: str, seed: int, first: int, count: int) -> dict[str, list[Any]]:
    """Return the sets first .. first + count - 1, as a list of values [count] for each parameter."""
    if not axes:
        return {}
    if sample == "grid":
        index = np.unravel_index(np.arange(first, first + count), [len(axis.values) for axis in axes])
        return {axis.name: [axis.values[i] for i in at] for axis, at in zip(axes, index, strict=True)}
    u = _sobol(len(axes), seed, first, count) if sample == "sobol" else _uniform(len(axes), seed, first, count)
    return {axis.name: axis.at(u[:, k]) for k, axis in enumerate(axes)}


def _uniform(d: int, seed: int, first: int, count: int) -> Floats:
    """Return draws [count, d] in [0, 1): each set has counters of its own, so that chunks do not matter."""
    each = -(-d // _COUNTERS_A_DRAW)
    bits = np.random.Philox(key=seed).advance(first * each)
    raw = bits.random_raw(count * each * _COUNTERS_A_DRAW).reshape(count, -1)[:, :d]
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53)


def _sobol(d: int, seed: int, first: int, count: int) -> Floats:
    from scipy.stats import qmc

    sequence = qmc.Sobol(d, scramble=True, rng=np.random.default_rng(seed))
    if first:
        sequence.fast_forward(first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a count that is no power of two is balanced a little less
        return np.asarray(sequence.random(count), np.float64)
