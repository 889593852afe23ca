"""The same rules in other people's systems, each in an environment of its own: ratios to plain C and to ours, one run.

    make bench-peers                                   # installs what is missing into .local/peers, then every row
    make bench-peers BENCH_ARGS="--only sweep"
    make bench-peers BENCH_ARGS="--json"

Contestants of bench/ratios.py run here, those of bench/peers/ in a process each; all of them take their turn in each
of the rounds, on one thread, by CPU time. An event-driven system does a part of the work, and its time is given for a
unit, a bar or a symbol-bar. Where a system cannot follow the rule to the letter its remark says how it differs; where
it can its figures are compared. One that cannot be installed or fails is listed with what it said.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ratios
from ratios import Row, Seen, say

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / ".local" / "peers"
SCREENING = "tradecore, screening"
OURS = {"sweep": SCREENING, "single": SCREENING, "portfolio": "fold", "indicator": "tradecore"}
LEAST_OVER_VECTORBT = 150.0
FEW_BARS, FEW_SYMBOLS, FEW_SESSIONS = 20_000, 20, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A system: its folder, its packages, what it does by row. Whole rows (`exact`: their figures are compared, to the
    stated difference) or a part of them; `remarks` by row."""

    name: str
    folder: str
    module: str
    packages: tuple[str, ...]
    whole: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    exact: dict[str, float] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    work: dict[str, str] = field(default_factory=dict)  # the worker's name of a row's work, where it is another


VECTORBT = {"folder": "vectorbt", "module": "vectorbt", "packages": ("vectorbt[rust]==1.2.0",)}
LATER = {"portfolio": "targets are sized at the open that fills them"}
PEERS = (
    Peer(
        name="vectorbt, rust",
        environ={"VECTORBT_ENGINE": "rust"},
        whole=("sweep", "single", "portfolio", "indicator"),
        exact={"sweep": 1e-9, "single": 1e-9},
        remarks=LATER,
        **VECTORBT,
    ),
    Peer(
        name="vectorbt, numba",
        environ={"VECTORBT_ENGINE": "numba"},
        whole=("sweep", "single", "portfolio", "indicator"),
        exact={"sweep": 1e-9, "single": 1e-9},
        remarks=LATER,
        **VECTORBT,
    ),
    Peer(
        name="pandas",
        environ={"VECTORBT_ENGINE": "numba"},
        whole=("indicator",),
        work={"indicator": "indicator in pandas"},
        **VECTORBT,
    ),
    Peer(name="TA-Lib", folder="TA-Lib", module="talib", packages=("TA-Lib==0.8.2",), whole=("indicator",)),
    Peer(
        name="backtesting",
        folder="backtesting",
        module="backtesting",
        packages=("backtesting==0.6.6",),
        part=("single",),
        exact={"single": 1e-6},
    ),
    Peer(
        name="backtrader",
        folder="backtrader",
        module="backtrader",
        packages=("backtrader==1.9.78.123", "numpy==2.4.6", "pandas==2.3.3"),
        part=("single", "portfolio"),
        remarks={"single": "buys with 99 % of the cash", **LATER},
    ),
    Peer(
        name="bt",
        folder="bt",
        module="bt",
        packages=("bt==1.4.1",),
        part=("portfolio",),
        remarks={"portfolio": "fills at the next close"},
    ),
    Peer(
        name="nautilus_trader",
        folder="nautilus_trader",
        module="nautilus",
        packages=("nautilus_trader==1.221.0",),
        part=("single", "portfolio"),
        remarks={"single": "fills at the close, 99 % of the cash", "portfolio": "fills at the close, without slippage"},
    ),
    Peer(
        name="qstrader",
        folder="qstrader",
        module="qstrader",
        packages=("qstrader==0.3.0", "pandas==2.3.3", "pytz"),
        part=("portfolio",),
        remarks={"portfolio": "fills at the close of the day of the decision, without slippage"},
    ),
    Peer(
        name="zipline-reloaded",
        folder="zipline-reloaded",
        module="zipline",
        packages=("zipline-reloaded==3.2.1",),
        part=("portfolio",),
        remarks={"portfolio": "fills at the next close"},
    ),
)


class Failed(Exception):
    """A peer could not be installed, or did not do its work."""


def install(peer: Peer) -> Path:
    """Return the Python of a peer's environment, with its packages at the stated versions."""
    home = FOLDER / peer.folder
    python, stamp = home / "bin" / "python", home / "packages"
    if stamp.is_file() and stamp.read_text() == " ".join(peer.packages):
        return python
    say(f"{peer.name}: installing {' '.join(peer.packages)} into {home.relative_to(HERE.parent)}")
    for command in (
        [sys.executable, "-m", "venv", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            errors = [line for line in said if line.startswith("ERROR")]
            raise Failed(f"not installed: {(errors or said or ['pip said nothing'])[-1]}")
    stamp.write_text(" ".join(peer.packages))
    return python


class Worker:
    """A peer's process for one row: a contestant of bench/ratios.py that measures itself."""

    def __init__(self, peer: Peer, work: str, data: Path) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
        self._folder = data.parent
        self._process = subprocess.Popen(
            [str(install(peer)), str(HERE / "peers" / "worker.py"), peer.module, work, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=data.parent,
            env={**os.environ, "RAYON_NUM_THREADS": "1", **peer.environ},
        )

    def _ask(self, order: str) -> float:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(order + "\n")
            self._process.stdin.flush()
            return float(json.loads(self._process.stdout.readline())["cpu_s"])
        except (BrokenPipeError, json.JSONDecodeError) as error:
            self._log.seek(0)
            said = [line for line in self._log.read().splitlines() if line.strip()]
            raise Failed(f"failed: {said[-1] if said else 'its process ended without a word'}") from error

    def cpu_s(self) -> float:
        """Run the work once and return its CPU seconds."""
        return self._ask("run")

    def result(self) -> Any:
        """Run the work once and return what it found."""
        import numpy as np

        path = self._folder / "result.npz"
        self._ask(f"result {path}")
        with np.load(path) as arrays:
            return tuple(arrays[name] for name in arrays.files)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def rows(only: str) -> list[tuple[Row, dict[str, Any], dict[str, Any], int]]:
    """Return each row with its data: the whole of it, the part that event-driven systems do, and the part's units."""
    import numpy as np
    import row_portfolio as book
    import row_sweep as cross

    from tradecore import indicators as ta

    fast, slow = cross.pairs()
    found = []
    if "sweep".startswith(only):
        open_, close = cross.walk(cross.DAYS, 0.012)
        found.append((cross.rows()[0], {"open": open_, "close": close, "fast": fast, "slow": slow}, {}, 0))
    if "single".startswith(only):
        open_, close = cross.walk(cross.MINUTES, 0.0004)
        pair = {"fast": np.array([20]), "slow": np.array([50])}
        few = {"open": open_[:FEW_BARS], "close": close[:FEW_BARS], **pair}
        found.append((cross.rows()[1], {"open": open_, "close": close, **pair}, few, FEW_BARS))
    if "portfolio".startswith(only):
        made = book.made()
        whole = {"open": made.open[:-1], "close": made.close[:-1]}
        few = {name: np.ascontiguousarray(a[:FEW_SESSIONS, :FEW_SYMBOLS]) for name, a in whole.items()}
        found.append((book.rows()[0], whole, few, FEW_SESSIONS * FEW_SYMBOLS))
    if "indicator".startswith(only):
        _, close = cross.walk(cross.MINUTES, 0.0004)
        row = Row(
            name="indicator",
            unit="point",
            units=cross.MINUTES,
            contestants={"tradecore": lambda: ta.sma(close, 30)},
            note="SMA of 30; there is no C here",
        )
        found.append((row, {"close": close}, {}, 0))
    return found


@contextmanager
def with_peers(
    row: Row, whole: dict[str, Any], few: dict[str, Any], few_units: int, failures: list[str]
) -> Iterator[Row]:
    """Yield a row with the peers that can do it as further contestants; those that fail go to failures."""
    import numpy as np

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tradecore-peers-")))
        np.savez(folder / "whole.npz", **whole)
        np.savez(folder / "few.npz", **few)
        contestants, fewer = dict(row.contestants), dict(row.fewer)
        for peer in PEERS:
            if row.name not in peer.whole + peer.part:
                continue
            data = folder / ("whole.npz" if row.name in peer.whole else "few.npz")
            try:
                worker = Worker(peer, peer.work.get(row.name, row.name), data)
                stack.callback(worker.close)
                found = worker.result()
                _compare(row, peer, found, few)
            except Failed as error:
                failures.append(f"{row.name}: {peer.name} {error}")
                continue
            contestants[peer.name] = worker
            if row.name in peer.part:
                fewer[peer.name] = few_units
        yield Row(name=row.name, unit=row.unit, units=row.units, contestants=contestants, fewer=fewer, note=row.note)


def _compare(row: Row, peer: Peer, found: tuple[Any, ...], few: dict[str, Any]) -> None:
    """Raise Failed where a peer whose rules are the row's has other figures."""
    if row.name not in peer.exact:
        return
    from row_sweep import COST_BPS, MINUTES_A_YEAR

    from tradecore.research.screening import screen_ma_crossover

    if row.name in peer.whole:
        ours = row.contestants[OURS[row.name]]()  # type: ignore[operator]
    else:
        data = few["open"], few["close"], few["fast"], few["slow"]
        ours = screen_ma_crossover(*data, cost_bps=COST_BPS, bars_per_year=MINUTES_A_YEAR)
    off = max(float(abs(a - b).max()) for a, b in zip(ours, found, strict=False))
    say(f"{row.name}: {peer.name}'s figures are ours to {off:.1e}")
    if not off <= peer.exact[row.name]:
        raise Failed(f"failed: its figures are off by {off:.1e}")


def table(row: Row, seen: list[Seen]) -> str:
    """Return a row as Markdown: time a unit, ratio to the first contestant and to ours."""
    ours = next(s for s in seen if s.name == OURS[row.name])
    remarks = {peer.name: peer.remarks.get(row.name, "") for peer in PEERS}
    lines = [
        f"**{row.name}**, {row.units:,} {row.unit}s: {row.note}",
        "",
        f"| | a {row.unit} | times {seen[0].name} | times ours | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for s in seen:
        part = f"{row.fewer[s.name]:,} {row.unit}s" if s.name in row.fewer else ""
        remark = "; ".join(t for t in (part, remarks.get(s.name, "")) if t)
        cells = [ratios.unit_time(statistics.median(s.unit_ns)), times(s.ratio), times(over(s, ours)), remark]
        lines.append(f"| {s.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def times(ratio: float) -> str:
    """Return a ratio in three digits: 0.592, 5.29, 331, 17,400."""
    return f"{float(f'{ratio:.3g}'):,.0f}" if ratio >= 100.0 else f"{ratio:.3g}"


def over(seen: Seen, ours: Seen) -> float:
    """Return the median over the rounds of a contestant's time over ours of the same round."""
    return statistics.median(a / b for a, b in zip(seen.unit_ns, ours.unit_ns, strict=True))


def main() -> int:
    """Install, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="sweep, single, portfolio or indicator")
    parser.add_argument("--rounds", type=int, default=ratios.ROUNDS, help=f"rounds ({ratios.ROUNDS})")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    arguments = parser.parse_args()
    results: list[tuple[Row, list[Seen]]] = []
    failures: list[str] = []
    for row, whole, few, few_units in rows(arguments.only):
        with with_peers(row, whole, few, few_units, failures) as joined:
            results.append((joined, ratios.measure(joined, arguments.rounds)))
    if arguments.json:
        print(json.dumps({**ratios.as_json(results), "failures": failures}, indent=2))
    else:
        print("\n\n".join(table(row, seen) for row, seen in results))
        print("\n" + "\n".join(failures or ["every peer was installed and did its work"]) + "\n")
    missed = False
    for row, seen in results:
        ours = next(s for s in seen if s.name == OURS[row.name])
        peers = [s for s in seen if s.name in {p.name for p in PEERS}]
        if not arguments.json:
            print(f"proof: {row.name}, times ours: " + ", ".join(f"{s.name} {times(over(s, ours))}" for s in peers))
        vectorbt = [over(s, ours) for s in peers if s.name.startswith("vectorbt")]
        missed |= row.name == "sweep" and not min(vectorbt, default=0.0) >= LEAST_OVER_VECTORBT
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
