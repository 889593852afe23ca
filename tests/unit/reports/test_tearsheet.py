"""The tear sheet: whole, fetches nothing, the same bytes for the same data, figures that are what the curve says."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from page_parts import Page
from tradecore.reports import metrics, palette
from tradecore.reports import tearsheet_charts as draw
from tradecore.reports import tearsheet_figures as figures
from tradecore.reports.pages import shade
from tradecore.reports.tearsheet import render
from tradecore.reports.tearsheet_model import Benchmark, Part, RoundTrip, TearSheet

SECTIONS = ("equity", "drawdowns", "calendar", "rolling", "spread", "use", "parts", "trips", "figures")


def weekdays(n: int, first: date = date(2006, 1, 2)) -> np.ndarray:
    every = [first + timedelta(days=k) for k in range(2 * n)]
    return np.array([(d - date(1970, 1, 1)).days for d in every if d.weekday() < 5][:n])


def sheet(n: int = 800, seed: int = 1, **changes: Any) -> TearSheet:
    """A seeded curve of n sessions with two strategies, three names, a short trip and some halted sessions."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.0004, 0.01, n)
    equity = 100_000.0 * np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    gain = np.diff(equity)
    trips = tuple(
        RoundTrip(
            symbol="IBM" if k % 3 else "MSFT",
            long=bool(k % 4),
            opened_on=date(2006, 1, 2) + timedelta(days=9 * k),
            closed_on=None if k == 11 else date(2006, 1, 12) + timedelta(days=9 * k),
            sessions=7,
            fills=2,
            bought_usd=1000.0,
            sold_usd=1000.0 + 20.0 * (k - 5),
            fees_usd=2.0,
            gain_usd=20.0 * (k - 5) - 2.0,
        )
        for k in range(12)
    )
    halves = [Part(name=x, gain_usd=gain / 2, weight_frac=0.3, fees_usd=9.0, traded_usd=1e5) for x in ("fast", "slow")]
    thirds = [
        Part(name=x, gain_usd=gain / 3, weight_frac=0.2, fees_usd=6.0, traded_usd=1e5) for x in ("AAPL", "IBM", "FB")
    ]
    fields: dict[str, Any] = {
        "title": "fast, slow",
        "lead": "3 names",
        "day": weekdays(n),
        "equity_usd": equity,
        "returns": metrics.simple_returns(equity),
        "benchmark": Benchmark(label="universe, equal weights", returns=rng.normal(0.0005, 0.013, n)),
        "gross_frac": rng.uniform(0.2, 0.9, n),
        "net_frac": rng.uniform(0.0, 0.2, n),
        "names_held": rng.integers(0, 4, n).astype(float),
        "traded_usd": rng.uniform(0, 5000, n),
        "fees_usd": rng.uniform(0, 3, n),
        "slippage_usd": rng.uniform(0, 3, n),
        "state": np.where(np.arange(n) % 100 > 90, 2.0, 0.0),
        "strategies": tuple(halves),
        "names": tuple(thirds),
        "trips": trips,
        "orders": 210,
        "fills": 200,
        "participation_frac": rng.uniform(0.0, 0.01, 200),
        "participation_limit_frac": 0.1,
        "settings": (("Opening cash", "$100,000"),),
        "hashes": (("data", "a" * 64),),
    }
    return TearSheet(**{**fields, **changes})


VARIANTS = {
    "whole": sheet(),
    "no benchmark": sheet(benchmark=None),
    "one session": sheet(1, trips=(), names=(), strategies=(), participation_frac=np.zeros(0), fills=0, orders=0),
    "nothing traded": replace(
        sheet(300, trips=(), names=(), strategies=(), participation_frac=np.zeros(0)),  # type: ignore[type-var]
        returns=np.zeros(300),
        equity_usd=np.full(301, 1e5),
        traded_usd=np.zeros(300),
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", VARIANTS)
def test_page_is_whole_and_fetches_nothing(name: str) -> None:
    page = Page(render(VARIANTS[name]))
    page.assert_fetches_nothing()
    wanted = set(SECTIONS) - ({"rolling"} if name == "one session" else set())
    assert wanted <= set(page.ids)
    assert "nan" not in " ".join(page.text).lower().split()
    assert "@media print" in page.html


def test_same_data_gives_the_same_bytes_whatever_was_drawn_before() -> None:
    first = render(VARIANTS["whole"])
    render(VARIANTS["no benchmark"])
    assert render(sheet()) == first
    assert render(sheet(orders=211)) != first


def test_thirteen_years_stay_small() -> None:
    size = len(render(sheet(3276)).encode())
    print(f"proof: a tear sheet of 3,276 sessions has {size / 1e3:.0f} kB")
    assert size < 420_000


def test_markup_in_names_is_text_on_the_page() -> None:
    nasty = "<script>alert(1)</script>"
    part = Part(name=nasty, gain_usd=np.ones(800), weight_frac=0.1, fees_usd=0.0, traded_usd=1.0)
    html = render(sheet(title=nasty, names=(part,), strategies=(part, part), settings=((nasty, nasty),)))
    Page(html).assert_fetches_nothing()


def test_both_themes_and_the_choice_between_them_name_the_same_variables() -> None:
    css = palette.palette_css(choice=True)
    blocks = re.findall(r"\{([^{}]*)\}", css)
    variables = [re.findall(r"--[\w-]+(?=:)", block) for block in blocks]
    assert len(blocks) == 5  # light, dark by the system, light and dark by choice, paper
    assert all(names == variables[0] for names in variables)
    assert len(set(variables[0])) == len(variables[0])
    assert blocks[2].strip().endswith(blocks[0].split("light dark;")[1].strip())
    used = set(re.findall(r"var\((--[\w-]+)", render(VARIANTS["whole"])))
    assert used - {"--s", "--c"} <= set(variables[0])


def test_a_page_without_a_session_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one session"):
        render(sheet(0, trips=(), names=(), strategies=(), participation_frac=np.zeros(0), benchmark=None))


def test_the_figures_are_those_of_the_metrics() -> None:
    found = {line.name: line for _, lines in figures.groups(VARIANTS["whole"]) for line in lines}
    r, b = VARIANTS["whole"].returns, VARIANTS["whole"].benchmark.returns  # type: ignore[union-attr]
    assert found["Sharpe"].book == f"{metrics.sharpe(r):.2f}".replace("-", "−")
    assert found["Sharpe"].benchmark == f"{metrics.sharpe(b):.2f}".replace("-", "−")
    assert found["Beta"].book == f"{metrics.beta(r, b):.2f}".replace("-", "−")
    assert len(found) >= 45
    assert "Beta" not in {line.name for _, lines in figures.groups(VARIANTS["no benchmark"]) for line in lines}


def test_only_a_crisis_that_is_wholly_inside_is_shown_and_compounds_its_sessions() -> None:
    found = figures.crises(sheet(1000))  # 2006-01-02 to late 2009
    assert [name for name, *_ in found] == ["Quant quake", "Lehman", "Crisis to the low"]
    _, begin, end, own, _ = found[1]
    days, returns = sheet(1000).day, sheet(1000).returns
    epoch = date(1970, 1, 1)
    inside = [r for d, r in zip(days, returns, strict=True) if begin < epoch + timedelta(days=int(d)) <= end]
    assert own == pytest.approx(np.prod(1.0 + np.array(inside)) - 1.0)
    assert figures.crises(sheet(100)) == []


def test_the_round_trips_that_are_closed_are_counted_and_the_open_one_is_named() -> None:
    found = {line.name: line.book for line in figures.trip_lines(VARIANTS["whole"].trips)}
    assert found["Round trips"] == "11 and 1 still open"
    assert found["Won"] == "45.5 %"  # 5 of 11: gains 18, 38, 58, 78, 98
    assert found["Profit factor"] == f"{290 / (22 + 42 + 62 + 82 + 102 + 2):.2f}"


def test_capacity_scales_the_equity_by_what_fills_took_of_the_volume() -> None:
    took = np.full(100, 0.002)
    assert figures.capacity_usd(sheet(participation_frac=took)) == pytest.approx(100_000 * 0.1 / 0.002)
    assert np.isnan(figures.capacity_usd(VARIANTS["one session"]))


def test_thinning_keeps_ends_highs_and_lows() -> None:
    values = np.random.default_rng(5).normal(size=9000).cumsum()
    values[:50] = np.nan
    kept = draw.thin(values)
    assert kept.size <= draw.MAX_POINTS + 2
    assert {0, 8999, int(np.nanargmax(values)), int(np.nanargmin(values))} <= set(kept.tolist())


def test_a_heatmap_cell_is_coloured_by_sign_and_full_at_its_limit() -> None:
    assert shade(0.05, 0.05) == 'class="up" style="--s:78%"'
    assert shade(-0.9, 0.05) == 'class="dn" style="--s:78%"'
    assert shade(float("nan"), 0.05) == ""
    assert shade(0.01, 0.0) == ""
