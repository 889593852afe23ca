"""`tradecore certify` and require_certificate: what is written, what it speaks for, who may not trade without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg
import pytest
import yaml
from project_home import FIRST, NOW, OWN, OWN_FILE, Project, make, open_for_trading, rows

from tradecore import certificates, market, pipeline, strategies
from tradecore.storage import migrate
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
LAST = date(2005, 3, 31)
LEAKY = '''"""Hold what will rise: the panel form looks one bar ahead."""

import numpy as np
import pandas as pd

from tradecore.strategies import strategy


def panel(window, out, lookback, *, days, model):
    close = pd.DataFrame(window.close)
    out[lookback - 1 :] = (close.shift(-1) > close)[lookback - 1 :]
    return out


@strategy(lookback_bars=lambda p: p.days + 1, panel=panel)
def own_momentum(window, *, days: int = 10, model: str = ""):
    return np.where(window.close[-1] > window.close[0], 1.0, 0.0)
'''


@pytest.fixture(scope="module")
def loaded(make_database, tmp_path_factory) -> Iterator[str]:
    """A database with the bars of 2004-12 to 2005-03, its book open before 2005-02-01: each test has a copy."""
    with make_database() as url:
        with connect(url) as conn:
            migrate.upgrade(conn)
            project = make(tmp_path_factory.mktemp("loaded"), url, own={})
            open_for_trading(project, conn)
            pipeline.load_history(project.settings(), conn, first=FIRST, last=LAST, now=NOW)
        yield url


@pytest.fixture
def place(loaded, copied_database, tmp_path) -> Iterator[tuple[Project, psycopg.Connection]]:
    """A project of one's own with two strategies, on a copy of that database."""
    with copied_database(loaded) as url, connect(url) as conn:
        yield make(tmp_path, url, own={"on_failure": "hold"}), conn
    strategies.REGISTRY.pop(OWN, None)


def demand(project: Project, **changes: Any) -> None:
    """Set require_certificate for all, or as given for the owner's strategy."""
    config = yaml.safe_load(project.config.read_text())
    config["require_certificate"] = changes.pop("all", False)
    config["strategies"][OWN].update(changes)
    project.config.write_text(yaml.safe_dump(config, sort_keys=False))


def alerts(conn: psycopg.Connection) -> list[tuple[Any, ...]]:
    return rows(conn, "SELECT stage, title, body, next_step FROM alerts WHERE kind = 'strategy' ORDER BY alert_id")


def reloaded(project: Project, text: str | None = None) -> None:
    """Write the owner's file, and forget the module as a new process would."""
    if text is not None:
        (project.home / "include" / "strategies" / f"{OWN}.py").write_text(text)
    strategies.REGISTRY.pop(OWN, None)


def test_a_certificate_is_written_and_its_checks_say_what_they_found(place):
    project, conn = place
    said = project.run("certify", OWN, "--tried", "7", "--json")
    assert said.code == 0, said.err + said.out
    made = said.document
    checks = {c["id"]: c for c in made["checks"]}
    assert list(checks) == ["causality", "prices", "reads", "warm_up", "walk_forward", "cross_validation", "sharpe",
                            "overfitting", "bootstrap", "trades", "costs"]  # fmt: skip
    assert made["passed"]
    assert all(checks[k]["ok"] for k in ("causality", "prices", "reads"))
    assert checks["causality"]["figures"]["bars"] == made["bars"]
    assert made["last"] == str(LAST)
    assert made["params"] == {"days": 10, "model": str(project.model)}
    assert "files of model" in checks["reads"]["says"]
    assert list(checks["reads"]["figures"]["files"]) == ["model"]
    assert checks["warm_up"]["figures"]["changed_frac_4x"] == 0.0, "its least rise is -1: it always holds"
    assert checks["sharpe"]["figures"]["trials"] == 7 + 1 + len({5, 8, 9, 11, 12, 15})
    assert checks["costs"]["figures"]["cagr"] == sorted(checks["costs"]["figures"]["cagr"], reverse=True)
    # the same on disk, as JSON and as a page, and in the database
    (path,) = (project.home / ".local" / "certificates").glob("*.json")
    assert json.loads(path.read_text()) == made
    html = path.with_suffix(".html").read_text()
    assert made["certificate_hash"] in html
    assert "No look-ahead" in html
    assert not [word for word in ("<script", "http://", "https://", "<link", "<img") if word in html]
    ((kind, passed, content),) = rows(conn, "SELECT kind, passed, content FROM certificates")
    assert (kind, passed) == (OWN, True)
    assert content == {k: v for k, v in made.items() if k != "certificate_hash"}
    # another certificate of the same is the same, but for its date
    again = project.run("certify", OWN, "--tried", "7", "--json").document
    differ = {k for k in made if made[k] != again[k]}
    assert differ <= {"made_at", "certificate_hash"}


def test_a_look_ahead_does_not_pass_and_the_command_says_where(place):
    project, conn = place
    reloaded(project, LEAKY)
    said = project.run("certify", OWN)
    assert said.code == 2
    line = next(line for line in said.out.splitlines() if "No look-ahead" in line)
    assert line.startswith("FAILS")
    assert "Suspected: the next bar: shift(-1)" in line
    assert "NOT PASSED" in said.out
    assert rows(conn, "SELECT passed FROM certificates") == [(False,)]
    demand(project, all=True)
    rule = next(r for r in market.rules(project.settings()) if r.name == OWN)
    why = certificates.why_not(conn, rule, project.settings().strategies_folder)
    assert why.startswith("its certificate ")
    assert why.endswith("did not pass: No look-ahead")


def test_a_file_that_no_parameter_names_does_not_pass(place, tmp_path):
    project, _ = place
    hidden = tmp_path / "tomorrow.csv"
    hidden.write_text("1\n")
    reloaded(project, OWN_FILE.replace("Path(model)", f"Path({str(hidden)!r})"))
    said = project.run("certify", OWN)
    assert said.code == 2
    assert f"FAILS Nothing read beside the window: it reads {hidden}" in said.out


def test_what_is_read_while_a_strategy_is_imported_is_seen(place, tmp_path):
    """A score may be made of a number that was read when the file was imported: before any window was there."""
    project, _ = place
    hidden = tmp_path / "tomorrow.csv"
    hidden.write_text("1\n")
    reloaded(project, OWN_FILE.replace("@strategy", f"KNOWN = Path({str(hidden)!r}).read_text()\n\n\n@strategy", 1))
    strategies.load(OWN, project.settings().strategies_folder)  # imported once already, as in a process that traded
    said = project.run("certify", OWN)
    assert said.code == 2
    assert f"FAILS Nothing read beside the window: it reads {hidden}" in said.out


def test_without_a_certificate_a_strategy_does_not_trade_and_the_others_do(place):
    project, conn = place
    first, second, third, fourth = project.sessions(4)
    project.trade(conn, first)
    demand(project, require_certificate=True)
    (done,) = project.trade(conn, second)
    assert "may not trade: it has no certificate" in done[f"signal {OWN}"]["failed"]
    assert done["signal ma_crossover"]["opinions"] >= 1
    assert rows(conn, "SELECT strategy, ok FROM strategy_runs JOIN bar_runs r USING (book, bar_end_at) WHERE"
                " r.session_date = %s ORDER BY 1", second) == [("ma_crossover", True), (OWN, False)]  # fmt: skip
    assert rows(conn, "SELECT count(*) FROM signals JOIN bar_runs r USING (book, bar_end_at) WHERE r.session_date = %s"
                " AND strategy = %s", second, OWN) == [(0,)]  # fmt: skip
    ((stage, title, body, next_step),) = alerts(conn)
    assert (stage, title) == ("signal", f"Strategy {OWN} failed")
    assert f"strategy {OWN} may not trade: it has no certificate" in body
    assert body.endswith("Its holdings: hold.")
    assert next_step.startswith(f"python -m tradecore certify {OWN};")

    assert project.run("certify", OWN).code == 0
    (done,) = project.trade(conn, third)
    assert done[f"signal {OWN}"]["opinions"] == 4
    assert len(alerts(conn)) == 1

    # changed between its signal and the decision: refused there too
    contexts = pipeline.contexts(project.settings(), conn, book="sim", session_date=fourth, now=NOW)
    for stage in (pipeline.ingest, pipeline.validate, pipeline.settle):
        stage(contexts[0])
    for name in pipeline.strategies(contexts[0]):
        pipeline.signal(contexts[0], name)
    file = project.home / "include" / "strategies" / f"{OWN}.py"
    file.write_text(OWN_FILE + "# later\n")
    pipeline.risk(contexts[0])
    stage, title, body, _ = alerts(conn)[-1]
    assert (stage, title) == ("risk", f"Strategy {OWN} has no valid certificate any more")
    assert "its code has changed since its certificate" in body


@pytest.mark.parametrize("change", ["line", "parameter", "file", "helper"])
def test_one_changed_line_or_parameter_is_another_strategy(place, change: str):
    project, conn = place
    demand(project, all=True)
    folder = project.home / "include" / "strategies"
    if change == "helper":  # a file of the owner's that the strategy imports
        (folder / "helper.py").write_text("DAYS = 1\n")
        reloaded(
            project, OWN_FILE.replace("import numpy as np\n", "import numpy as np\n\nif False:\n    import helper\n")
        )
    assert project.run("certify", OWN).code == 0

    def why() -> str:
        rule = next(r for r in market.rules(project.settings()) if r.name == OWN)
        return certificates.why_not(conn, rule, folder)

    assert why() == ""
    if change == "line":
        reloaded(project, OWN_FILE.replace("> least, 1.0", ">= least, 1.0"))
    elif change == "parameter":
        demand(project, all=True, params={"days": 11, "model": str(project.model)})
    elif change == "file":
        project.model.write_text("-0.5\n")
    else:
        (folder / "helper.py").write_text("DAYS = 2\n")
    expected = "parameters are others" if change in ("parameter", "file") else "code has changed since"
    assert expected in why()
    certified = [f.name for f in certificates.code_files(OWN, folder)]
    assert OWN + ".py" in certified
    assert "bars.py" in certified, "what the project's own modules make of bars is part of it"
    assert "pipeline.py" not in certified


def test_parameters_are_read_as_json_and_unknown_strategies_and_short_histories_are_refused(place):
    project, _ = place
    said = project.run("certify", "ma_crossover", "--first", "2005-03-15", "--param", "short_period=4")
    assert (said.code, "bars of csv for ma_crossover" in said.err) == (1, True)
    assert "next: python -m tradecore load-history" in said.err
    said = project.run("certify", "no_such_thing")
    assert (said.code, "no strategy is called 'no_such_thing'" in said.err) == (1, True)
    said = project.run("certify", "ma_crossover", "--param", "short_period")
    assert (said.code, "is no key=value" in said.err) == (1, True)
    said = project.run("certify", "ma_crossover", "--param", "short_perod=4")
    assert (said.code, "short_perod" in said.err) == (1, True)
