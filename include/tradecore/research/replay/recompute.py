"""A day in a folder, and its computing in a process that has another revision's package: no database, no network.

Run as a file, `python recompute.py INCLUDE FOLDER`: INCLUDE is the other revision's include/. A revision that knows no
replay gets this package's one beside its own code.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tradecore.research.replay.day import Day

BOOKS, MARKETS = ("before", "after"), ("bar", "met", "following")
PANEL = ("bar_end_ns", "day", "open", "high", "low", "close", "volume", "traded", "adj_factor")


def save(day: Day, configured: dict[str, str], home: Path, folder: Path) -> None:
    """Write a day, its configuration (in full, and what is not default) and the project's folder."""
    import numpy as np

    arrays: dict[str, Any] = {f"panel.{name}": getattr(day.panel, name) for name in PANEL}
    arrays |= {f"series.{name}": values for name, values in day.panel.series.items()}
    for name in (*BOOKS, *MARKETS):
        record = getattr(day, name)
        if record is not None:
            arrays |= {f"{name}.{field}": array for field, array in zip(record._fields, record, strict=True)}
    if day.past is not None:
        arrays["past"] = day.past
    np.savez(folder / "day.npz", **arrays)
    plain = {
        "book": day.book,
        "bar_end_at": day.bar_end_at.isoformat(),
        "instruments": [[i.instrument_id, i.symbol, i.tick_e4, i.qty_step_e6] for i in day.panel.instruments],
        "strategies": list(day.axes.strategies),
        "after_hash": day.after_hash,
        "ended": list(day.ended),
        "failed": list(day.failed),
        "decided": day.decided,
        "home": str(home),
    }
    (folder / "day.json").write_text(json.dumps(plain))
    for name, text in configured.items():
        (folder / name).write_text(text)


def load(folder: Path) -> Day:
    """Read a day. Raises ValueError where this revision's records have other fields than those that were written."""
    import numpy as np

    from tradecore.bars import Panel
    from tradecore.model import Book, Instrument, Market
    from tradecore.research.replay.day import Day
    from tradecore.storage.books import Axes

    plain = json.loads((folder / "day.json").read_text())
    with np.load(folder / "day.npz") as found:
        arrays = dict(found)

    def record(kind: Any, name: str) -> Any:
        mine = {k.split(".")[1]: v for k, v in arrays.items() if k.startswith(f"{name}.")}
        if mine and set(mine) != set(kind._fields):
            raise ValueError(f"{kind.__name__} has other fields there: {sorted(set(mine) ^ set(kind._fields))}")
        return kind(**mine) if mine else None

    series = {k.removeprefix("series."): v for k, v in arrays.items() if k.startswith("series.")}
    also: dict[str, Any] = (
        {"series": series} if series else {}
    )  # a revision that knows none has nothing to score them with
    names = ("instrument_id", "symbol", "tick_e4", "qty_step_e6")
    instruments = tuple(Instrument(**dict(zip(names, i, strict=True))) for i in plain["instruments"])
    return Day(
        book=plain["book"],
        bar_end_at=datetime.fromisoformat(plain["bar_end_at"]),
        axes=Axes(instruments=tuple(i.instrument_id for i in instruments), strategies=tuple(plain["strategies"])),
        panel=Panel(instruments=instruments, **{name: arrays[f"panel.{name}"] for name in PANEL}, **also),
        bar=record(Market, "bar"),
        met=record(Market, "met"),
        before=record(Book, "before"),
        after=record(Book, "after"),
        after_hash=plain["after_hash"],
        ended=tuple((int(a), int(b)) for a, b in plain["ended"]),
        failed=tuple(plain["failed"]),
        decided=plain["decided"],
        following=record(Market, "following"),
        **({"past": arrays["past"]} if "past" in arrays else {}),
    )


def main(include: str, where: str) -> None:
    """Compute the day of a folder with the package of `include`; write record.json there."""
    own = Path(__file__).resolve().parents[1]
    sys.path[0] = include
    import tradecore.research

    assert Path(tradecore.research.__file__).resolve().is_relative_to(Path(include).resolve())
    if not (Path(include) / "tradecore" / "research" / "replay").is_dir():
        tradecore.research.__path__.append(str(own))
    from tradecore import settings
    from tradecore.errors import ConfigError
    from tradecore.research.replay.day import compute

    folder = Path(where)
    home = json.loads((folder / "day.json").read_text())["home"]
    environ = {"TRADECORE_HOME": home, "LOG_LEVEL": "ERROR", "YAHOO_FINANCE_ENABLED": "true"}
    try:
        found = settings.load(environ, folder / "all.yaml")
    except ConfigError:  # a key that this revision does not have: what was written by hand may do without it
        found = settings.load(environ, folder / "written.yaml")
    (folder / "record.json").write_text(json.dumps(compute(load(folder), found)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
