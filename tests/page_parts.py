"""What a page is made of: what a browser would fetch, ids, text, and whether tags are closed in order."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Reads a page; fails where a tag is closed out of order."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "data", "poster", "srcset"):
                self.references.append(value or "")
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def assert_fetches_nothing(self) -> None:
        """Fail where a browser would ask for anything, or a reference inside the page leads nowhere."""
        outside = [r for r in self.references if not r.startswith(("#", "data:image/png;base64,"))]
        assert outside == []
        assert not re.search(r"url\((?!#)", self.html)
        assert "@import" not in self.html
        assert "<script" not in self.html
        inside = {r[1:] for r in self.references if r.startswith("#")}
        assert inside | set(re.findall(r"url\(#([^)]+)\)", self.html)) <= set(self.ids)
        assert len(self.ids) == len(set(self.ids))
