"""Who may import whom: DESIGN.md section 3, checked with the standard library's ast."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "include" / "tradecore"

MODEL = {"model", "bars", "units", "errors", "alert", "report_model"}
SETTINGS = {
    "sessions",
    "settings",
    "config_env",
    "config_models",
    "config_reference",
    "config_risk",
    "config_source",
    "config_values",
    "kernel_cache",
    "logs",
}
CORE = ("ticks", "indicators", "strategies", "risk", "portfolio", "execution", "backtest")  # in the order of the stages
EDGE = {
    "feeds": {
        *("ccxt", "curl_cffi", "numpy", "pyarrow", "requests", "tenacity", "yfinance"),
        *("websockets", "msgpack"),
    },
    "validation": {"great_expectations", "numpy", "pandas"},
    "notify": {"httpx", "apprise", "pydantic"},
    "storage": {"psycopg", "numpy"},
}
VENDORS = {
    "yfinance",
    "alpaca",
    "ccxt",
    "great_expectations",
    "apprise",
    "httpx",
    "requests",
    "psycopg",
    "pandas",
    "matplotlib",
}
AMBIENT = {
    "datetime.now",
    "datetime.utcnow",
    "date.today",
    "time.time",
    "random.random",
    "os.environ",
    "os.getenv",
    "np.random.seed",
    "uuid.uuid4",
}
SHELL = {"cli", "__main__"}
# A real broker: its modules in execution/, and its SDK. Nobody but venue.py opens a venue.
BROKERS = {"alpaca": {"alpaca", "requests", "urllib3"}}
VENUES = {"execution.alpaca", "execution.simulated"}


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports at run time, absolute, also those inside functions."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for child in block.body
        for node in ast.walk(child)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import; write it out"
            found.add(node.module)
            if (
                node.module == "tradecore"
                or (PACKAGE / node.module.removeprefix("tradecore.").replace(".", "/")).is_dir()
            ):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inner(found: set[str]) -> set[str]:
    return {m.removeprefix("tradecore.") for m in found if m.startswith("tradecore.")}


def room(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_follow_the_layers(path: Path):
    module, found = name_of(path), imports(path)
    outside = {m.split(".")[0] for m in found} - {"tradecore"} - set(sys.stdlib_module_names) - {"__future__"}
    assert "airflow" not in outside, "tradecore never imports airflow"
    rooms = {room(m) for m in inner(found)} - {room(module)}
    if module.split(".")[-1] == "_kernels":
        assert outside <= {"numpy", "numba"}
        assert all(
            m.split(".")[-1] == "_kernels" or room(m) == "model" or m.startswith("model")
            for m in inner(found)
            if not m.startswith("model.")
        ), f"{module} imports {inner(found)}"
    if room(module) in MODEL:
        assert outside <= {"numpy"}
        assert rooms <= MODEL
    elif room(module) in SETTINGS:
        assert outside <= {"pydantic", "yaml", "dotenv", "exchange_calendars", "numpy", "pydantic_core"}
        assert rooms <= MODEL | SETTINGS, f"{module} imports {rooms}"
    elif broker := broker_of(module):
        assert rooms <= MODEL | SETTINGS, f"{module} imports {rooms}"
        assert outside <= BROKERS[broker], f"{module} imports {outside - BROKERS[broker]}"
        own = {m for m in inner(found) if room(m) == "execution"}
        assert all(m == "execution.broker" or broker_of(m) == broker or m.count(".") == 0 for m in own), own
    elif module == "execution.simulated":
        assert rooms <= MODEL | SETTINGS | {"storage"}, f"{module} imports {rooms}"
        assert outside <= {"psycopg"}, f"{module} imports {outside}"
    elif room(module) in CORE:
        earlier = set(CORE[: CORE.index(room(module))])
        assert rooms <= MODEL | SETTINGS | earlier | {"_kernels"} | _same_stage(room(module)), f"{module}: {rooms}"
        assert not outside & VENDORS, f"{module} does I/O: {outside & VENDORS}"
    elif room(module) in EDGE:
        assert rooms <= MODEL | SETTINGS, f"{module} imports {rooms}"
        assert outside <= EDGE[room(module)], f"{module} imports {outside - EDGE[room(module)]}"
    elif module.startswith("reports.metrics"):
        assert rooms <= {"indicators"}
        assert inner(found) <= {m for m in inner(found) if m.startswith(("reports.metrics", "indicators"))}
        assert outside <= {"numpy", "numba"}


def broker_of(module: str) -> str | None:
    """The real broker that a module of execution/ belongs to: alpaca, alpaca_http, ..."""
    name = module.split(".")[1] if module.startswith("execution.") else ""
    return next((broker for broker in BROKERS if name == broker or name.startswith(f"{broker}_")), None)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_venue_is_opened_in_one_place(path: Path):
    module, found = name_of(path), inner(imports(path))
    if module != "venue" and module not in VENUES:
        assert not found & VENUES, f"{module} opens a venue of its own"
        assert not {m for m in found if broker_of(m)} or broker_of(module), f"{module} knows a broker"


def _same_stage(name: str) -> set[str]:
    """The ledger logs what limits change: risk (5) uses the journal of portfolio (6)."""
    return {"portfolio"} if name == "risk" else set()


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_no_ambient_clock_chance_or_environment(path: Path):
    module = name_of(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & AMBIENT
    allowed = {"datetime.now"} if room(module) in SHELL else {"os.environ"} if room(module) in SETTINGS else set()
    assert used <= allowed, f"{module} uses {used - allowed}: it is passed down from the shell or the settings"


@pytest.mark.parametrize("folder", ["dags", "plugins"])
def test_the_airflow_side_uses_no_vendor(folder: str):
    for path in sorted((REPO / folder).rglob("*.py")):
        outside = {m.split(".")[0] for m in imports(path)}
        assert not outside & (VENDORS - {"psycopg"}), f"{path.name} imports {outside & VENDORS}"


def test_dag_files_are_short():
    for path in sorted((REPO / "dags").glob("*.py")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines < 110, f"{path.name} has {lines} lines; a DAG file reads as a sentence"
