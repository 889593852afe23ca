"""A file in the place of a live stream: the same messages at the pace of their times, or faster.

* `.jsonl`: a line is a message of Alpaca's stream, or a list of them, with times as JSON has them (RFC 3339).
* `.csv`: a line is a trade: at, symbol, price, size, and, if it has them, exchange, trade_id, conditions. at has
  a UTC offset; a trade without an id gets its line's number.

Either may be compressed (`.gz`). Lines are in the order of their times.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO, cast

from tradecore.errors import ConfigError, MalformedData

Message = dict[str, Any]
AT_ONCE = 500
NEEDED = ("at", "symbol", "price", "size")


class ReplayLine:
    """Gives the messages of a file; speed 1 is their own pace, 60 a minute a second, 0 as fast as they are taken."""

    live = False

    def __init__(self, path: Path, *, speed: float, symbols: Iterable[str], resume_at: datetime | None) -> None:
        """Messages of other symbols, and those before resume_at, are left out. Raises ConfigError for no such file."""
        if not path.is_file():
            raise ConfigError(f"{path} is no file.", next_step="name a .jsonl or .csv file (also .gz)", value=str(path))
        if speed < 0:
            raise ConfigError(f"a speed of {speed:g} runs backwards.", next_step="1: as it was; 0: as fast as can be")
        self._path, self._speed = path, speed
        self._symbols, self._resume_at = frozenset(symbols), resume_at
        self._rows: Iterator[tuple[datetime, Message]] = iter(())
        self._next: tuple[datetime, Message] | None = None
        self._file: TextIO | None = None
        self._began: tuple[float, datetime] | None = None

    async def __aenter__(self) -> Self:
        """Open the file."""
        opened = gzip.open if self._path.suffix == ".gz" else open
        self._file = cast(TextIO, opened(self._path, "rt", encoding="utf-8", newline=""))
        suffix = self._path.with_suffix("").suffix if self._path.suffix == ".gz" else self._path.suffix
        found = _trades(self._file, self._path) if suffix == ".csv" else _messages(self._file, self._path)
        self._rows = (row for row in found if self._wanted(row))
        self._next = next(self._rows, None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    async def messages(self) -> list[Message] | None:
        """Return the next messages that are due, or None at the end. Raises MalformedData that names the line."""
        if self._next is None:
            return None
        if self._began is None:
            self._began = time.monotonic(), self._next[0]
        await asyncio.sleep(max(0.0, self._due_s(self._next[0]) - time.monotonic()))
        found = [self._next[1]]
        while (following := next(self._rows, None)) is not None and len(found) < AT_ONCE:
            if self._due_s(following[0]) > time.monotonic():
                break
            found.append(following[1])
        self._next = following
        return found

    def _wanted(self, row: tuple[datetime, Message]) -> bool:
        at, message = row
        return message.get("S") in self._symbols and (self._resume_at is None or at >= self._resume_at)

    def _due_s(self, at: datetime) -> float:
        began_s, first_at = self._began or (0.0, at)
        return began_s + ((at - first_at).total_seconds() / self._speed if self._speed else 0.0)


def _messages(lines: Iterable[str], path: Path) -> Iterator[tuple[datetime, Message]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
            for message in document if isinstance(document, list) else [document]:
                if "t" in message:
                    yield _time(message["t"]), message
        except (ValueError, TypeError) as error:
            raise _unreadable(path, number, error) from None


def _trades(lines: Iterable[str], path: Path) -> Iterator[tuple[datetime, Message]]:
    rows = csv.DictReader(lines)
    missing = [name for name in NEEDED if name not in (rows.fieldnames or ())]
    if missing:
        raise MalformedData(
            f"{path.name} has no column {', '.join(missing)}.",
            next_step="give it the columns at, symbol, price, size, and exchange, trade_id, conditions if it has them",
        )
    for row in rows:
        try:
            number = int(row.get("trade_id") or rows.line_num)
            trade = {"p": float(row["price"]), "s": float(row["size"]), "x": row.get("exchange") or "", "i": number}
            conditions = (row.get("conditions") or "").split()
            yield _time(row["at"]), {"T": "t", "S": row["symbol"], "t": row["at"], "c": conditions, **trade}
        except (ValueError, TypeError) as error:
            raise _unreadable(path, rows.line_num, error) from None


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no UTC offset")
    return at


def _unreadable(path: Path, number: int, error: Exception) -> MalformedData:
    return MalformedData(
        f"{path.name}, line {number}: {error}.", next_step="correct that line, then run it again", line=number
    )
