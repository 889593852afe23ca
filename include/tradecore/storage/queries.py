"""Named SQL: one file a subject under sql/, each query after a line `-- name: what_it_is_called`."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import LiteralString, cast

FOLDER = Path(__file__).parent / "sql"
_NAME = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)


@cache
def load(file_name: str) -> dict[str, LiteralString]:
    """Return the queries of `sql/<file_name>.sql` by name.

    They count as literal strings for psycopg: they come from the package's own files, never from a caller.

    Raises ValueError for a file without queries, or with one name twice.
    """
    parts = _NAME.split((FOLDER / f"{file_name}.sql").read_text(encoding="utf-8"))
    names, bodies = parts[1::2], parts[2::2]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"sql/{file_name}.sql: needs distinct `-- name:` lines, has {names}")
    return {name: cast(LiteralString, body.strip()) for name, body in zip(names, bodies, strict=True)}
