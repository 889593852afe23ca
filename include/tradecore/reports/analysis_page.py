"""The page on a universe: one self-contained document in the tear sheet's style. Pure: same figures, same bytes."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

from tradecore.reports import formats, metrics
from tradecore.reports import tearsheet_charts as draw
from tradecore.reports.metrics import Floats
from tradecore.reports.pages import research_page, shade
from tradecore.units import from_day

if TYPE_CHECKING:
    from tradecore.research.analysis import Analysis

ROWS = 40
IN_NUMBERS = 20  # as many names fit into a table of correlations


def render(found: Analysis) -> str:
    """Return the page."""
    days = [from_day(int(d)) for d in found.day]
    band = 1.96 / np.sqrt(found.day.size)
    return research_page(
        "analysis.html.j2",
        a=found,
        first=days[0],
        last=days[-1],
        tiles=_tiles(found),
        growth=draw.line_chart(
            days,
            [metrics.growth(found.index)[1:]],
            salt="index",
            label=f"Growth of 1 in equal parts of {len(found.symbols)} names",
            base=1.0,
            width=720,
            height=190,
        ),
        spread=[
            ("Equal-weight index", draw.histogram(found.index, salt="a-index", label="Distribution of the index")),
            (
                "All names and sessions together",
                draw.histogram(
                    found.returns[~np.isnan(found.returns)], salt="a-all", label="Distribution of all returns"
                ),
            ),
        ],
        rows=_rows(found)[:ROWS],
        rows_left_out=max(0, len(found.symbols) - ROWS),
        memory=[
            ("Returns of the index", _lags(found.autocorrelation, "acf")),
            ("Absolute returns of the index", _lags(found.autocorrelation_abs, "acf-abs")),
        ],
        band=float(band),
        seasons=[
            ("Month", found.months, _season_bars(found.months, "months")),
            ("Weekday", found.weekdays, _season_bars(found.weekdays, "weekdays")),
        ],
        matrix=_matrix(found) if len(found.symbols) <= IN_NUMBERS else [],
        matrix_image=_image(found) if len(found.symbols) > IN_NUMBERS else "",
        volatility=draw.line_chart(
            days,
            [found.volatility],
            salt="volatility",
            label="EWMA volatility of the index, annual",
            percents=True,
            base=0.0,
            filled=True,
            width=720,
            height=180,
        ),
    )


def _tiles(found: Analysis) -> list[tuple[str, str, str, str]]:
    pairs = found.correlation[np.triu_indices(len(found.symbols), 1)]
    known = pairs[np.isfinite(pairs)]
    mean = formats.ratio(float(known.mean())) if known.size else formats.NOTHING
    r = found.index
    return [
        ("Names", f"{len(found.symbols)}", "", f"{found.day.size:,} sessions"),
        (
            "CAGR",
            formats.signed_percent(metrics.cagr(r), 1),
            formats.sign_class(metrics.cagr(r)),
            "equal weights, no costs",
        ),
        ("Volatility", formats.percent(metrics.annual_volatility(r), 1), "", "annual"),
        ("Deepest drawdown", formats.percent(metrics.max_drawdown(r), 1), "", ""),
        ("Excess kurtosis", formats.ratio(metrics.kurtosis(r)), "", f"skewness {formats.ratio(metrics.skewness(r))}"),
        ("Mean correlation", mean, "", f"of {known.size:,} pairs"),
    ]


def _rows(found: Analysis) -> list[tuple[str, list[str]]]:
    """Return a row a name in the order of similarity: what its returns are like."""
    rows = []
    for k in found.order:
        r = found.returns[:, k]
        r = r[~np.isnan(r)]
        if r.size < 2:
            continue
        lag = np.corrcoef(r[1:], r[:-1])[0, 1] if r.size > 2 and r.std() > 0.0 else np.nan
        rows.append(
            (
                found.symbols[k],
                [
                    f"{r.size:,}",
                    formats.signed_percent(metrics.cagr(r), 1),
                    formats.percent(metrics.annual_volatility(r), 1),
                    formats.ratio(metrics.sharpe(r)),
                    formats.percent(metrics.max_drawdown(r), 1),
                    formats.ratio(metrics.skewness(r)),
                    formats.ratio(metrics.kurtosis(r)),
                    formats.percent(float(r.min()), 1),
                    formats.percent(float(r.max()), 1),
                    formats.ratio(float(lag)),
                ],
            )
        )
    return rows


def _lags(values: Floats, salt: str) -> str:
    names = [str(k + 1) for k in range(values.size)]
    label = f"Autocorrelation by lag, first {formats.ratio(float(values[0]))}"
    return draw.bar_chart(names, [values], salt=salt, label=label, every=3)


def _season_bars(seasons: tuple[object, ...], salt: str) -> str:
    means = np.array([s.mean_frac for s in seasons])  # type: ignore[attr-defined]
    names = [s.name for s in seasons]  # type: ignore[attr-defined]
    return draw.bar_chart(names, [means], salt=salt, label=f"Mean return by {salt}", places=2)


def _matrix(found: Analysis) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the correlations as rows of (shade, text), similar names beside each other."""
    rows = []
    for i in found.order:
        cells = [float(found.correlation[i, j]) for j in found.order]
        rows.append((found.symbols[i], [(shade(v, 1.0), formats.ratio(v)) for v in cells]))
    return rows


def _image(found: Analysis) -> str:
    """Return the correlations as a PNG in a data address: green above 0, red below, clear where they are 0 or unknown,
    so that it stands on a light and on a dark page."""
    from matplotlib import image

    values = np.nan_to_num(found.correlation[np.ix_(found.order, found.order)])
    pixels = np.zeros((*values.shape, 4))
    pixels[..., :3] = np.where(values[..., None] >= 0.0, (0.10, 0.60, 0.44), (0.85, 0.33, 0.25))
    pixels[..., 3] = np.abs(values)
    out = io.BytesIO()
    image.imsave(out, pixels, format="png", metadata={"Software": ""})
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
