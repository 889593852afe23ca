"""A made-up market as csv files: geometric walks with a common factor, splits and dividends; one seed, one market.

For timing only: nothing here is a claim about a market, and nothing of it is ever loaded into an installation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

SEED = 20_261_121
DRIFT, MARKET_SIGMA, OWN_SIGMA = 0.0003, 0.008, 0.014
SPLIT_ABOVE_USD, DIVIDEND_EVERY = 250.0, 63  # a split is due above this price; dividends come once a quarter


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was written: how many bars, splits and dividends."""

    bars: int
    splits: int
    dividends: int


def symbols(count: int) -> tuple[str, ...]:
    """Return names such as S000 .. S499."""
    return tuple(f"S{k:03d}" for k in range(count))


def write(folder: Path, names: Sequence[str], sessions: Sequence[date], *, seed: int = SEED) -> Made:
    """Write daily bars of each name, one file each, and corporate_actions.csv: a folder for the csv feed.

    A price above 250 USD splits 2:1 or 3:1; a third of the names pays about 0.4 % a quarter, with a pay date.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.Generator(np.random.PCG64(seed))
    market = random.normal(DRIFT, MARKET_SIGMA, len(sessions))
    actions: list[str] = []
    for k, name in enumerate(names):
        lines, own = _walk(name, sessions, market, random, pays=k % 3 == 0)
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        actions += own
    head = "symbol,ex_date,kind,ratio_num,ratio_den,dividend_usd,pay_date"
    (folder / "corporate_actions.csv").write_text("\n".join([head, *actions]) + "\n", encoding="utf-8")
    splits = sum(",split," in line for line in actions)
    return Made(bars=len(names) * len(sessions), splits=splits, dividends=len(actions) - splits)


def _walk(
    name: str,
    sessions: Sequence[date],
    market: npt.NDArray[np.float64],
    random: np.random.Generator,
    *,
    pays: bool,
) -> tuple[list[str], list[str]]:
    """Return the csv lines of one name's bars, and those of its actions."""
    days = len(sessions)
    step = np.exp(market + random.normal(0, OWN_SIGMA, days))
    gap, over, under = random.normal(0, 0.003, days), random.random(days) * 0.01, random.random(days) * 0.01
    volume = random.lognormal(14, 0.5, days).astype(np.int64)
    close, offset = float(random.uniform(20, 240)), int(random.integers(DIVIDEND_EVERY))
    lines, actions = ["session_date,open,high,low,close,volume"], []
    for t, day in enumerate(sessions):
        if t and close > SPLIT_ABOVE_USD:
            ratio = 3 if close > 1.2 * SPLIT_ABOVE_USD else 2
            close /= ratio
            actions.append(f"{name},{day},split,{ratio},1,,")
        elif t and pays and t % DIVIDEND_EVERY == offset:
            paid = round(close * 0.004, 2) or 0.01
            actions.append(f"{name},{day},dividend,1,1,{paid},{sessions[min(t + 10, days - 1)]}")
            close -= paid
        opened, close = close * (1 + gap[t]), max(1.0, close * step[t])
        high, low = max(opened, close) * (1 + over[t]), min(opened, close) * (1 - under[t])
        prices = [round(x, 2) for x in (opened, high, low, close)]
        lines.append(f"{day},{','.join(f'{x:.2f}' for x in prices)},{volume[t]}")
    return lines, actions
