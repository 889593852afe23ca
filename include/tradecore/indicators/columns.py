"""From the caller's arrays to the columns that kernels take, and back; the checks that every indicator shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tradecore.model import Floats

Values = npt.ArrayLike  # [T], one instrument, or [T, n], a panel: one column each


def whole(name: str, least: int, **periods: int) -> None:
    """Raise ValueError unless each period is a whole number of rows, at least `least`."""
    for key, value in periods.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name}: {key} is {value!r}; it must be a whole number of rows, {least} or more")


def positive(name: str, **values: float) -> None:
    """Raise ValueError unless each value is a number above 0."""
    for key, value in values.items():
        if not value > 0.0:
            raise ValueError(f"{name}: {key} is {value!r}; it must be above 0")


def run(
    name: str, kernel: Callable[..., None], data: dict[str, Values], *params: Any, outputs: int = 1
) -> list[Floats]:
    """Run a kernel over each column and return its outputs, shaped as the data.

    Parameters: data by argument name, all of one shape, [T] or [T, n]; params passed on between data and outputs.
    Raises ValueError when the shapes differ or are neither. Work and memory grow with T * n.
    """
    arrays = {key: np.asarray(values, np.float64) for key, values in data.items()}
    shapes = {key: array.shape for key, array in arrays.items()}
    shape = next(iter(shapes.values()))
    if len(shape) not in (1, 2) or any(other != shape for other in shapes.values()):
        listed = ", ".join(f"{key} {value}" for key, value in shapes.items())
        raise ValueError(f"{name}: the shapes are {listed}; they must be the same, (T,) or (T, n)")
    # One column after the other in memory, and always writable: a kernel is compiled for one kind of array.
    columns = [
        _writable(np.ascontiguousarray((array if array.ndim == 2 else array[:, None]).T)) for array in arrays.values()
    ]
    out = np.empty((outputs, columns[0].shape[0], shape[0]))
    for i in range(out.shape[1]):
        kernel(*(column[i] for column in columns), *params, *out[:, i])
    return [np.ascontiguousarray(part.T).reshape(shape) for part in out]


def _writable(array: Floats) -> Floats:
    return array if array.flags.writeable else array.copy()
