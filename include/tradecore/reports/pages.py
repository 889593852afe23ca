"""What the research pages share: one template environment, one style, both themes with a choice between them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tradecore.reports import formats
from tradecore.reports.palette import palette_css

TEMPLATES = Path(__file__).parent / "templates"
FILTERS = (
    "usd",
    "signed_usd",
    "usd_float",
    "signed_usd_float",
    "shares",
    "signed_shares",
    "percent",
    "signed_percent",
    "bps",
    "ratio",
    "score",
    "day",
    "short_day",
    "minute",
    "words",
    "sign_class",
)


@cache
def environment() -> Environment:
    """Return the templates' environment: everything is escaped, nothing may be undefined."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in FILTERS:
        made.filters[name] = getattr(formats, name)
    return made


def research_page(template: str, **values: Any) -> str:
    """Return a page of the research style as one self-contained HTML document that ends with a newline."""
    css = palette_css(choice=True) + "".join(
        (TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "research.css")
    )
    return environment().get_template(template).render(css=css, **values) + "\n"


def shade(value: float, full: float) -> str:
    """Return the class and style of a heatmap's cell: green above 0, red below, full colour at `full`; none for NaN."""
    if value != value or full <= 0.0:
        return ""
    strength = min(1.0, abs(value) / full)
    return f'class="{"up" if value >= 0.0 else "dn"}" style="--s:{round(strength * 78)}%"'
