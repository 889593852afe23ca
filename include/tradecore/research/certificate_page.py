"""A certificate as one self-contained page: no script, nothing fetched."""

from __future__ import annotations

from typing import Any

from tradecore.reports.pages import TEMPLATES, environment
from tradecore.reports.palette import palette_css


def page(content: dict[str, Any], certificate_hash: str) -> str:
    """Return the page of a certificate's content; the same content gives the same page."""
    css = palette_css() + (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return environment().get_template("certificate.html.j2").render(c=content, hash=certificate_hash, css=css)
