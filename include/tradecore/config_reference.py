"""The reference of all configuration keys, made from their models; `settings --reference` prints it."""

from __future__ import annotations

import types
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tradecore.config_env import Environment
from tradecore.config_models import Trading

_HEAD = """\
# Configuration

Made by `python -m tradecore.settings --reference` from the models that check it; a test compares the two.

Two places. `.env` (or the environment, which wins) holds what differs between machines, and secrets; `make
env` writes it. `include/config/trading.yaml` holds what is traded and how; `TRADECORE_CONFIG` names another
profile (`yahoo` is `include/config/trading.yahoo.yaml`) or a file. Both are checked as one, before anything
runs: `python -m tradecore.settings --check`. An unknown key is an error with the nearest known one, an
impossible value an error with its file, line and rule, a placeholder such as CHANGE_ME an error with its key.

Money is in USD. Fractions are of the book's equity unless stated otherwise, with at most 6 decimal places;
1 bps is 0.01 %. YAML is read by the rules of version 1.2: only `true` and `false` are booleans, so the ticker
ON stays text.
"""


def reference() -> str:
    """Return the reference as Markdown."""
    parts = [_HEAD, "\n## Environment and .env\n", "| key | value | default | meaning |\n|---|---|---|---|"]
    parts += [_row(name.upper(), info) for name, info in Environment.model_fields.items()]
    parts += ["\n## trading.yaml\n", "| key | value | default | meaning |\n|---|---|---|---|"]
    parts += [_row(name, info) for name, info in Trading.model_fields.items() if _model_in(info.annotation)[0] is None]
    for path, model in _sections(Trading, ""):
        parts += [f"\n### {path}\n", f"{(model.__doc__ or '').strip()}\n"]
        parts += ["| key | value | default | meaning |\n|---|---|---|---|"]
        parts += [_row(info.alias or name, info) for name, info in model.model_fields.items()]
    return "\n".join(parts) + "\n"


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, info in model.model_fields.items():
        below, step = _model_in(info.annotation)
        if below is not None:
            here = f"{path}{name}{step}"
            yield here, below
            yield from _sections(below, f"{here}.")


def _model_in(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    if get_origin(annotation) is dict:
        below, _ = _model_in(get_args(annotation)[1])
        return below, ".<name>"
    if get_origin(annotation) in (Union, types.UnionType):  # a section that may be left out
        found = [below for arg in get_args(annotation) if (below := _model_in(arg)[0]) is not None]
        return (found[0] if found else None), ""
    return None, ""


def _row(key: str, info: FieldInfo) -> str:
    cells = (
        f"`{key}`",
        _kind(info.annotation) + _bounds(info),
        _default(info),
        info.description or "see below",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _kind(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(args[0])
    if origin is Literal:
        return ", ".join(f"`{arg}`" for arg in args)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if arg is type(None) else _kind(arg) for arg in args)
    if origin is tuple:
        return f"list of {_kind(args[0])}"
    if origin is dict:
        return "mapping"
    names = {bool: "true / false", int: "whole number", float: "number", Decimal: "number", str: "text"}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    name: str = getattr(annotation, "__name__", str(annotation))
    return names.get(annotation, {"SecretStr": "secret", "Path": "path"}.get(name, name))


def _bounds(info: FieldInfo) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    items = [*_flat(info.metadata), *_flat(getattr(info.annotation, "__metadata__", ()))]
    found = {sign: getattr(item, attr) for item in items for attr, sign in signs.items()
             if getattr(item, attr, None) is not None}  # fmt: skip
    text = ", ".join(f"{sign} {found[sign]:,}" for sign in signs.values() if sign in found)
    return f" {text}" if text else ""


def _flat(metadata: Any) -> Iterator[Any]:
    for item in metadata:
        yield item
        yield from getattr(item, "metadata", ())


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "needed"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value in ((), {}, "", None):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
