"""Data Docs: a validation as Great Expectations' own renderer shows it, as a page that asks nobody for anything.

The pages of the library load styles, scripts and pictures from elsewhere, and say so to whoever serves them. Here
these are taken out, and the few styles that the page needs are in it. The index is made of the pages that are there.
"""

from __future__ import annotations

import re
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

KEPT_PAGES = 400
_ELSEWHERE = re.compile(
    r"""<script[^>]*\ssrc=["']https?:[^>]*>\s*</script>|<(?:link|img)\b[^>]*["']https?:[^>]*>"""
    r"""|<a\b[^>]*href=["']https?:[^>]*>(.*?)</a>|url\(\s*["']?https?:[^)]*\)""",
    re.DOTALL | re.IGNORECASE,
)
_CHANCE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")  # ids of its parts
_STYLE = """<style>
body{font:14px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:72rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{border:1px solid #ddd;padding:.3rem
.5rem;text-align:left; vertical-align:top}.badge,.alert{border:1px solid #ccc;border-radius:.3rem;padding:.1rem
.4rem}.row{display:block} .text-danger,.fa-times{color:#b00020}.text-success,.fa-check-circle{color:#1b7f3b}nav
a{margin-right:1rem} .d-none,.modal,.navbar-toggler,.cta-footer{display:none}
@media (prefers-color-scheme:dark){body{background:#16181c;color:#ddd}td,th{border-color:#444}a{color:#8ab4f8}}
</style></head>"""


def write(path: Path, result: Any, *, title: str, at: datetime) -> None:
    """Write the page of a validation, whole or not at all, and the index of its folder; drop what is older than 400
    pages.

    The same result gives the same bytes: the library's time of reading is not on it, `at` stands for the run.
    """
    result.meta["run_id"] = RunIdentifier(run_name=title, run_time=at)
    result.meta["batch_markers"] = {}
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(result)
    html = DefaultJinjaPageView().render(document, show_how_to_buttons=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    _put(path, _with_rules(offline(html), result.results, title))
    pages = sorted(path.parent.glob("*.html"), reverse=True)
    pages = [page for page in pages if page.name != "index.html"]
    for old in pages[KEPT_PAGES:]:
        old.unlink(missing_ok=True)
    _put(path.parent / "index.html", index(path.parent.name, [page.stem for page in pages[:KEPT_PAGES]]))


def _with_rules(html: str, results: list[Any], title: str) -> str:
    """Return a page that begins with what each rule says, what its failure does and how many rows failed it: the
    library shows neither."""
    rows = []
    for result in results:
        meta = result.expectation_config.meta or {}
        if "rule" in meta:
            failed = int((result.result or {}).get("unexpected_count") or 0)
            cells = (meta["severity"], meta["rule"], ", ".join(meta["fields"]), f"{failed:,}" if failed else "none")
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    table = (
        f"<h1>{escape(title)}</h1><table><tr><th>Severity</th><th>Rule</th><th>Of</th><th>Rows that fail</th></tr>\n"
        + "\n".join(rows)
        + "\n</table>"
    )
    return re.sub(r"(<body[^>]*>)", lambda found: found[1] + table, html, count=1)


def offline(html: str) -> str:
    """Return a page without anything that is loaded from elsewhere, or drawn by chance; the text of links stays."""
    numbers: dict[str, str] = {}
    html = _CHANCE.sub(lambda found: numbers.setdefault(found[0], f"part-{len(numbers)}"), html)
    html = _ELSEWHERE.sub(lambda found: "none" if found[0].startswith("url") else found[1] or "", html)
    return html.replace("</head>", _STYLE, 1)


def index(source: str, stems: list[str]) -> str:
    """Return the list of pages, the newest first."""
    lines = "\n".join(f'<li><a href="{escape(stem)}.html">{escape(stem)}</a></li>' for stem in stems)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data Docs: {escape(source)}</title>{_STYLE}'
        f"<body><h1>Data Docs: {escape(source)}</h1><ul>\n{lines}\n</ul></body></html>\n"
    )


def _put(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
