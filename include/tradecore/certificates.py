"""Which certificate speaks for a strategy: that of exactly its code and its parameters.

The code is the strategy's own file and every file of this project that it imports, directly or not, by content: one
changed line is another strategy. The parameters are their values, and the content of the files that they name.
"""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import psycopg
from pydantic import BaseModel

from tradecore import provenance
from tradecore.errors import StrategyError
from tradecore.market import Rule
from tradecore.storage import queries

PACKAGE = Path(__file__).resolve().parent
SQL = queries.load("certificates")


def code_files(kind: str, own_folder: Path) -> list[Path]:
    """Return the file of a strategy and the files of the project that it imports, sorted; those in functions too."""
    built_in, own = PACKAGE / "strategies" / f"{kind}.py", own_folder / f"{kind}.py"
    found: set[Path] = set()
    todo = [built_in if built_in.is_file() else own]
    while todo:
        path = todo.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        todo += [file for name in _imported(path) for file in _files_of(name, own_folder)]
    return sorted(found)


def _imported(path: Path) -> set[str]:
    """Return the modules that a file names, also as `from package import module`; none where it cannot be read."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError:
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _files_of(name: str, own_folder: Path) -> list[Path]:
    """Return the files of a module's name, its packages' first; none for what is not of this project."""
    parts = name.split(".")
    if parts[0] == "tradecore":
        base, parts = PACKAGE, parts[1:]
    else:
        base, parts = own_folder, parts[1:] if parts[0] in ("strategies", "own_strategies") else parts
    found = []
    for k in range(1, len(parts) + 1):
        at = base.joinpath(*parts[:k])
        found += [file for file in (at / "__init__.py", at.with_suffix(".py")) if file.is_file()]
    return found


def code_hash(kind: str, own_folder: Path) -> str:
    """Return the sha256 of a strategy's code."""
    digest = hashlib.sha256()
    for path in code_files(kind, own_folder):
        base = PACKAGE if path.is_relative_to(PACKAGE) else own_folder
        digest.update(str(path.relative_to(base)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def file_hashes(params: BaseModel) -> dict[str, str]:
    """Return the sha256 of each file that a parameter names."""
    texts = {name: value for name, value in params.model_dump().items() if isinstance(value, str) and value}
    files = {name: Path(text) for name, text in texts.items() if Path(text).is_file()}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def params_hash(params: BaseModel) -> str:
    """Return the hash of parameters, by value and by the content of the files that they name."""
    return provenance.hash_of(params.model_dump(mode="json"), file_hashes(params))


def require(conn: psycopg.Connection, rule: Rule, own_folder: Path) -> None:
    """Raise StrategyError unless the strategy needs no certificate, or the newest of its code and parameters passed."""
    if rule.needs_certificate and (reason := why_not(conn, rule, own_folder)):
        raise StrategyError(
            f"strategy {rule.name} may not trade: {reason}.",
            next_step=f"python -m tradecore certify {rule.name}; or take require_certificate out of trading.yaml",
            strategy=rule.name,
        )


def why_not(conn: psycopg.Connection, rule: Rule, own_folder: Path) -> str:
    """Return why no certificate speaks for a strategy as it is now, or '' where one does."""
    kind, code, params = rule.strategy.name, code_hash(rule.strategy.name, own_folder), params_hash(rule.params)
    row = conn.execute(SQL["of_kind"], {"kind": kind, "code": code, "params": params}).fetchone()
    if row is None:
        return "it has no certificate, and require_certificate is on"
    of = f"certificate {row[0][:12]} of {row[4]:%Y-%m-%d}"
    if row[1] != code:
        return f"its code has changed since its {of}"
    if row[2] != params:
        return f"its parameters are others than those of its {of}"
    if not row[3]:
        failed = [c["title"] for c in row[5]["checks"] if c["required"] and not c["ok"]]
        return f"its {of} did not pass: {', '.join(failed)}"
    return ""
