"""Where a setting stands: YAML with line numbers, problems with their location, and the nearest known key.

YAML is read by the 1.2 core rules, because those of 1.1 turn the ticker ON into true and 010 into 8; a key
that stands twice in one mapping is a problem instead of a silent last-one-wins.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from tradecore.errors import ConfigError

PathParts = tuple[str | int, ...]

_SHOWN_VALUE_CHARS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with the configuration: where, what, the value, the rule."""

    source: str
    rule: str
    path: str = ""
    line: int | None = None
    value: str | None = None

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        what = self.path if self.value is None else f"{self.path} = {self.value}"
        return f"{where}: {what}: {self.rule}" if what else f"{where}: {self.rule}"


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlSource:
    """A YAML document as plain data, with the line (from 1) of every key and list item by its path."""

    name: str = "configuration"
    data: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[PathParts, int] = field(default_factory=dict)

    def line(self, path: Sequence[str | int]) -> int | None:
        """Return the line of a path, or of its nearest ancestor that is written in the file."""
        for end in range(len(path), 0, -1):
            found = self.lines.get(tuple(path[:end]))
            if found is not None:
                return found
        return None

    def problem(self, path: Sequence[str | int], rule: str, value: object = None) -> Problem:
        """Return a Problem at a path of this document."""
        shown = None if value is None else _shown(value)
        return Problem(source=self.name, line=self.line(path), path=dotted(path), value=shown, rule=rule)


def config_error(problems: Sequence[Problem]) -> ConfigError:
    """Return one ConfigError that lists every problem (attribute `problems`), to be raised by the caller."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "\n".join(f"  {problem}" for problem in problems)
    return ConfigError(
        f"{count} in the configuration:\n{lines}\n",
        next_step="correct each place named above; docs/configuration.md lists every key with its rule.",
        problems=tuple(problems),
    )


def dotted(path: Iterable[str | int]) -> str:
    """Return a path as it is spoken of: `universe.symbols[1]`, `risk.max_exposure`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def nearest(key: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """Return the known name that is most like `key` regardless of case, or None when none is alike."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def unknown(key: str, known: Sequence[str], what: str = "key") -> str:
    """Return the rule text for an unknown name: the nearest known one, else all of them."""
    near = nearest(key, known)
    if near is not None:
        return f"unknown {what}, did you mean {near!r}?"
    return f"unknown {what}; known here: {', '.join(sorted(known)) or 'none'}"


# --- YAML ---


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2: only true and false are booleans, no octal, no base 60."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:int")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))


def read_yaml(path: Path, name: str) -> YamlSource:
    """Read a YAML mapping with its line numbers.

    Parameters: path; name, how messages call the file. Raises ConfigError where the file cannot be read, is
    not YAML, is not a mapping, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise config_error([Problem(source=name, rule=f"cannot be read: {error}")]) from error
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None or not isinstance(node, yaml.MappingNode):
            raise config_error([Problem(source=name, line=1, rule="must be a mapping of sections (`book:`, ...)")])
        twice = list(_duplicates(node, (), name))
        if twice:
            raise config_error(twice)
        data = loader.construct_document(node)
        return YamlSource(name=name, data=data, lines=dict(_lines(node, ())))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        rule = f"is not YAML: {error.problem or error.context}"
        raise config_error([Problem(source=name, line=line, rule=rule)]) from error
    except yaml.YAMLError as error:
        raise config_error([Problem(source=name, rule=f"is not YAML: {error}")]) from error
    except ValueError as error:  # a scalar that looks like a date and is none (2000-02-31)
        raise config_error([_bad_scalar(node, name, error)]) from error
    finally:
        loader.dispose()


def _bad_scalar(node: yaml.Node | None, name: str, error: ValueError) -> Problem:
    for path, scalar in _scalars(node, ()):
        try:
            _Loader("").construct_object(scalar)
        except ValueError:
            line = scalar.start_mark.line + 1
            return Problem(source=name, line=line, path=dotted(path), value=scalar.value, rule=str(error))
    return Problem(source=name, rule=str(error))


def _scalars(node: yaml.Node | None, path: PathParts) -> Iterator[tuple[PathParts, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield path, node
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _scalars(item, (*path, index))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(key, path)
            yield from _scalars(value, (*path, str(key.value)))


def _duplicates(node: yaml.Node, path: PathParts, name: str, above: tuple[yaml.Node, ...] = ()) -> Iterator[Problem]:
    """Yield every key that stands twice; before merge keys are resolved, which may repeat keys on purpose."""
    if any(node is parent for parent in above):
        raise yaml.constructor.ConstructorError(None, None, "an anchor contains itself", node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, (*path, index), name, (*above, node))
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            here, line = (*path, str(key.value)), key.start_mark.line + 1
            if str(key.value) in first and key.tag != "tag:yaml.org,2002:merge":
                rule = f"stands twice (first on line {first[str(key.value)]}); keep one"
                yield Problem(source=name, line=line, path=dotted(here), rule=rule)
            first.setdefault(str(key.value), line)
            yield from _duplicates(value, here, name, (*above, node))


def _lines(node: yaml.Node, path: PathParts) -> Iterator[tuple[PathParts, int]]:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item.start_mark.line + 1
            yield from _lines(item, (*path, index))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, str(key.value)), key.start_mark.line + 1
            yield from _lines(value, (*path, str(key.value)))


# --- pydantic's errors as problems ---


def problems_of(
    error: ValidationError, model: type[BaseModel], source: YamlSource, prefix: PathParts = ()
) -> list[Problem]:
    """Return a ValidationError as located problems.

    Parameters: error, raised by `model`; source, the document that `prefix` + the error's own path point
    into.
    """
    found: list[Problem] = []
    for item in error.errors(include_url=False):
        loc: PathParts = tuple(part for part in item["loc"] if part != "[key]")
        broken = (item.get("ctx") or {}).get("broken")
        if broken is not None:  # several rules between fields, see config_models.broken_rules
            found += [source.problem((*prefix, *loc, *path), rule, value) for path, value, rule in broken]
        elif item["type"] == "extra_forbidden":
            owner = model_at(model, loc[:-1])
            found.append(source.problem((*prefix, *loc), unknown(str(loc[-1]), known_keys(owner))))
        elif item["type"] == "missing":
            found.append(source.problem((*prefix, *loc), "is missing"))
        else:
            found.append(source.problem((*prefix, *loc), rule_text(item["msg"]), _Raw.of(item["input"])))
    return found


def rule_text(message: str) -> str:
    """Return pydantic's message as a rule ("Input should be ..." -> "must be ...")."""
    message = message.removeprefix("Value error, ")
    for kind in ("Input", "Decimal input", "String", "Tuple", "Dictionary", "Datetimes", "Keys"):
        message = message.replace(f"{kind} should", "must", 1) if message.startswith(f"{kind} should") else message
    return message


def known_keys(model: type[BaseModel] | None) -> list[str]:
    """Return the keys that a model accepts in a file (its aliases where it has some)."""
    return [] if model is None else [info.alias or name for name, info in model.model_fields.items()]


def model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model that validates the mapping at a path below `model`, or None."""
    here: Any = model
    for part in path:
        here = _below(_plain(here), part)
    here = _plain(here)
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _below(annotation: Any, part: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, info in annotation.model_fields.items():
            if part in (name, info.alias):
                return info.annotation
        return None
    args = get_args(annotation)
    if get_origin(annotation) is dict:
        return args[1]
    return args[0] if get_origin(annotation) is tuple else None


def _plain(annotation: Any) -> Any:
    """Strip Annotated and `| None` from an annotation."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [arg for arg in get_args(annotation) if arg is not type(None)]
        return _plain(rest[0]) if len(rest) == 1 else annotation
    return annotation


class _Raw(str):
    """A value already rendered for a message; shown as it is."""

    __slots__ = ()

    @classmethod
    def of(cls, value: object) -> _Raw:
        text = "null" if value is None else repr(value) if isinstance(value, str) else str(value)
        if len(text) > _SHOWN_VALUE_CHARS:
            text = text[: _SHOWN_VALUE_CHARS - 3] + "..."
        return cls(text)


def _shown(value: object) -> str:
    return value if isinstance(value, _Raw) else _Raw.of(value)
