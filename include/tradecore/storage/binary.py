"""COPY in PostgreSQL's binary format straight from numpy arrays: the fastest way in (docs of COPY, 'Binary Format')."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

_HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TAIL = struct.pack(">h", -1)
_EPOCH_US = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01
_EPOCH_DAY = 10_957
BLOCK_ROWS = 32_768

Column = npt.NDArray[Any]


def timestamps(ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return nanoseconds since 1970 UTC as the int64 of a timestamptz column."""
    return ns // 1000 - _EPOCH_US


def dates(day: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
    """Return days since 1970-01-01 as the int32 of a date column."""
    return (day - _EPOCH_DAY).astype(np.int32)


def to_ns(timestamptz: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the int64 of a timestamptz column as nanoseconds since 1970 UTC."""
    return (timestamptz.astype(np.int64) + _EPOCH_US) * 1000


def copy_in(
    conn: psycopg.Connection, table: str, columns: Mapping[str, Column], texts: Mapping[str, str] | None = None
) -> None:
    """Append columns [rows] to a table. Each has its column's own width (i2, i4, i8, f8, bool); none has NULLs.

    texts: columns that hold the same text in every row.
    """
    same: dict[str, Column] = {name: np.array(text.encode()) for name, text in (texts or {}).items()}
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    for name, values in (*same.items(), *columns.items()):
        layout += [(f"width of {name}", ">i4"), (name, values.dtype.newbyteorder(">").str)]
    count, names = next(iter(columns.values())).size, (*same, *columns)
    # one block of rows after the other, through the same memory: a million rows would be 150 MB
    buffer = np.zeros(min(count, BLOCK_ROWS), np.dtype(layout))
    buffer["fields"] = len(names)
    for name, text in same.items():
        buffer[f"width of {name}"], buffer[name] = text.dtype.itemsize, text
    for name, values in columns.items():
        buffer[f"width of {name}"] = values.dtype.itemsize
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(", ").join(sql.Identifier(name) for name in names)
    )
    with conn.cursor().copy(statement) as copy:
        copy.write(_HEAD)
        for start in range(0, count, BLOCK_ROWS):
            block = buffer[: min(BLOCK_ROWS, count - start)]
            for name, values in columns.items():
                block[name] = values[start : start + BLOCK_ROWS]
            copy.write(block.tobytes())
        copy.write(_TAIL)
