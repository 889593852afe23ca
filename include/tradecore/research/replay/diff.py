"""What happened and what was computed, side by side: the first stage that differs, and every value that does. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tradecore.research.replay.day import STAGES, Record
from tradecore.units import shares, usd

SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value of a stage that differs; None where one side has none."""

    stage: str
    what: str
    happened: Any
    replayed: Any


def differences(happened: Record, replayed: Record, symbols: Mapping[str, str]) -> list[Difference]:
    """Return the differences in the order of the stages; symbols = {instrument id as text: symbol}.

    A stage that only one side has is not compared, but for what a strategy scored on one side alone.
    """
    found: list[Difference] = []
    for stage in (*STAGES, "next"):
        if stage in happened and stage in replayed:
            found += _walk(stage, "", happened[stage], replayed[stage], symbols)
    return found


def _walk(stage: str, at: str, a: Any, b: Any, symbols: Mapping[str, str]) -> Iterator[Difference]:
    if a == b:
        return
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({*a, *b}, key=str):
            yield from _walk(stage, f"{at} {_named(key, symbols)}".strip(), a.get(key), b.get(key), symbols)
    else:
        yield Difference(stage=stage, what=at, happened=a, replayed=b)


def _named(key: str, symbols: Mapping[str, str]) -> str:
    return " ".join(symbols.get(part, part) for part in key.split(" "))


def first_stage(found: list[Difference]) -> str:
    """Return the first stage that differs, '' for none. The next bar's equity is none of the day's stages."""
    return next((d.stage for d in found if d.stage != "next"), "")


def lines(found: list[Difference], limit: int = SHOWN) -> list[str]:
    """Return the differences as text, at most `limit` a stage."""
    out: list[str] = []
    for stage in dict.fromkeys(d.stage for d in found):
        mine = [d for d in found if d.stage == stage]
        out += [f"  {stage:<7} {d.what:<34} {_text(d, d.happened):>24} -> {_text(d, d.replayed)}" for d in mine[:limit]]
        if len(mine) > limit:
            out.append(f"  {stage:<7} and {len(mine) - limit} more")
    return out


def _text(d: Difference, value: Any) -> str:
    """Return one side for people: shares, USD, scores; a dash for none."""
    if value is None:
        return "no opinion" if d.stage == "signal" else "-"
    if d.stage == "signal" and isinstance(value, int):
        return f"{value / 1e9:.9f}".rstrip("0")
    if d.what.endswith("_e4") and isinstance(value, int):
        return f"{usd(value):,.2f} USD"
    if d.what.startswith("targets"):
        return f"{shares(value[0])} at {usd(value[1])}" + ("" if value[2] else ", no opinion")
    if d.what.startswith("orders"):
        return f"{shares(value[0]):+} at {usd(value[1])}"
    if d.what.startswith("contributions"):
        return f"{shares(value)}"
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."
