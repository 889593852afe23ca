"""What somebody mistypes in research: one message that names the option and what comes next, as JSON where asked."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from project_home import Project, make, open_for_trading

from tradecore.reports.sweep_page import Heat, render
from tradecore.reports.tearsheet import render as tear_sheet
from tradecore.research import backtest, kept, sheet
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
DAYS = ("2005-01-03", "2005-01-31")
RANGE = ("--first", DAYS[0], "--last", DAYS[1])
TWO = ("--param", "short_period=2,3")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Project:
    """Bars of 2004-12 and 2005-01, the book open before 2005-02-01; no test here writes more than pages."""
    made = make(tmp_path_factory.mktemp("asked"), module_database_url)
    with closing(connect(module_database_url)) as conn:
        open_for_trading(made, conn)
    return made


WRONG = [
    (("backtest", "2005-13-01", "2005-01-31"), "'2005-13-01' is no date"),
    (("backtest", *DAYS, "--strategies", "nope"), "--strategies: no strategy is called 'nope'; known: ma_crossover"),
    (("backtest", *DAYS, "--strategies", "../../x"), "--strategies: '../../x' is no name of a strategy"),
    (("backtest", *DAYS, "--params", "{"), "--params: the parameters are no JSON"),
    (("backtest", *DAYS, "--params", '{"nope": {}}'), "--params: there are parameters for 'nope'"),
    (("backtest", *DAYS, "--params", '{"ma_crossover": {"short_perod": 4}}'), "--params ma_crossover: strategy"),
    (("backtest", *DAYS, "--params", '{"ma_crossover": {"short_period": NaN}}'), "NaN is no number"),
    (("backtest", *DAYS, "--params", '{"ma_crossover": {"short_period": 90}}'), "--params ma_crossover: "),
    (("backtest", *DAYS, "--benchmark", "SPY"), "the benchmark 'SPY' is no member of the universe"),
    (("backtest", *DAYS, "--cash", "lots"), "'lots' is no amount of money"),
    (("backtest", *DAYS, "--cash", "nan"), "cannot open with NaN USD"),
    (("backtest", *DAYS, "--cost-bps", "nan"), "costs of nan bps cannot be"),
    (("backtests", "show", "%"), "no single backtest has an id that begins with '%'"),
    (("sweep",), "give a STRATEGY, or --resume"),
    (("sweep", "ma_crossover", *TWO), "a sweep needs its range"),
    (("sweep", "nope", *TWO, *RANGE), "STRATEGY: no strategy is called 'nope'"),
    (("sweep", "Nope-1", *TWO, *RANGE), "STRATEGY: 'Nope-1' is no name of a strategy"),
    (("sweep", "ma_crossover", "--param", "short_perod=2,3", *RANGE), "has no parameter 'short_perod'"),
    (("sweep", "ma_crossover", "--param", "short_period=nan,3", *RANGE), "a value is no number"),
    (("sweep", "ma_crossover", "--param", "short_period=9:5", *RANGE), "a range is LOW:HIGH"),
    (("sweep", "ma_crossover", *TWO, *RANGE, "--metric", "luck"), "metric 'luck' is unknown"),
    (("sweep", "ma_crossover", *TWO, *RANGE, "--backend", "nope", "--jobs", "2"), "joblib knows no backend 'nope'"),
    (("sweep", "ma_crossover", *TWO, "--first", DAYS[1], "--last", DAYS[0]), "is empty"),
    (("sweep", "--resume", "sw-nope"), "sw-nope"),
    (("sweeps", "show", "../../x"), "../../x"),
    (("sweeps", "heatmap", "sw-nope"), "sw-nope"),
    (("walk-forward", "ma_crossover", *TWO, *RANGE), "no walk-forward in 2005-01-03 to 2005-01-31"),
    (("walk-forward", "nope", *TWO, *RANGE), "STRATEGY: no strategy is called 'nope'"),
    (("certify", "../../x"), "STRATEGY: '../../x' is no name of a strategy"),
    (("certify", "ma_crossover", "--param", "short_perod=4"), "--param: strategy ma_crossover has no parameter"),
    (("certify", "ma_crossover", "--param", "short_period=NaN"), "NaN is no number"),
    (("analyse", "--symbols", "SPY"), "the universe has no SPY"),
    (("analyse", "--first", DAYS[1], "--last", DAYS[0]), "there are 0 sessions"),
    (("analyse", "--out", "/proc/nope/page.html"), "cannot be written"),
    (("replay", "2005-01-08"), "2005-01-08 (Saturday) is not a session of XNYS"),
    (("replay", "2005-02-01"), ""),
    (("replay", "2005-02-01", "--as-of", "soon"), "'soon' is no time"),
    (("replay", "2005-02-01", "--limits", "max_exposure"), "--limits: there is no file max_exposure"),
    (("replay", "2005-02-01", "--limits", "max_exposure=0.5,max_turnover"), "is no key=value"),
    (("replay", "2005-02-01", "--limits", "max_exposure=[1"), "cannot be read"),
    (("data", "diff", "2005-01-31", "--as-of", "now"), "two times are compared"),
    (
        ("data", "diff", "2005-01-08", "--as-of", "now", "--as-of", "now"),
        "2005-01-08 (Saturday) is not a session of XNYS",
    ),
    (("prove-day", "2005-01-08"), "2005-01-08 (Saturday) is not a session of XNYS"),
]


@pytest.mark.parametrize(("command", "message"), WRONG, ids=[" ".join(c) for c, _ in WRONG])
def test_a_mistake_is_one_message_with_a_next_step(project: Project, command: tuple[str, ...], message: str):
    said = project.run(*command, "--json")
    assert said.code in (1, 2)
    found = said.document
    assert set(found) == {"error", "message", "next_step"}
    assert message in found["message"]
    assert found["next_step"], "what to do now"
    assert "trading.yaml:" not in found["message"], "a slip of the command is none of the file"
    assert f"error: {found['message'].rstrip()}" in said.err
    assert "Traceback" not in said.err


OUT_OF_RANGE = [
    ("sweep", "ma_crossover", *TWO, *RANGE, "--top", "0"),
    ("sweep", "ma_crossover", *TWO, *RANGE, "--seed", "-1"),
    ("sweep", "ma_crossover", *TWO, *RANGE, "--chunk-size", "-5"),
    ("sweep", "ma_crossover", *TWO, *RANGE, "--jobs", "-7"),
    ("walk-forward", "ma_crossover", *TWO, *RANGE, "--train", "0"),
    ("walk-forward", "ma_crossover", *TWO, *RANGE, "--gap", "-2"),
    ("sweeps", "list", "--most", "-1"),
    ("sweeps", "show", "sw-nope", "--top", "-1"),
    ("backtests", "list", "--most", "0"),
    ("certify", "ma_crossover", "--tried", "-1"),
]


@pytest.mark.parametrize("command", OUT_OF_RANGE, ids=" ".join)
def test_a_number_that_cannot_be_is_refused_with_its_bounds(project: Project, command: tuple[str, ...]):
    said = project.run(*command)
    assert said.code == 2
    assert command[-2] in said.err
    assert "is not in the range" in said.err


def test_a_figure_that_is_not_defined_is_null_in_json(project: Project):
    """Nothing is bought: no Sharpe ratio. NaN is no JSON."""
    said = project.run("backtest", "2005-01-03", "2005-01-03", "--json")
    assert "NaN" not in said.out
    found = json.loads(said.out, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert found["metrics"]["sharpe"] is None
    assert found["fills"] == 0


def test_a_backtest_that_is_kept_writes_what_else_was_asked_for(project: Project, tmp_path: Path):
    files = {name: tmp_path / f"{name}.csv" for name in ("equity", "trades", "round-trips", "lots")}
    options = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    page = tmp_path / "deep" / "page.html"
    said = project.run("backtest", *DAYS, "--keep", "--json", "--report", str(page), *options)
    assert said.code == 0, said.err
    assert said.document["report"] == str(page)
    assert said.document["backtest_id"]
    assert (project.home / said.document["report_path"]).is_file()
    assert page.read_text().lower().startswith("<!doctype html>")
    assert all(path.read_text().count("\n") > 1 for path in files.values()), "not exercised: something of each"


def test_a_strategy_is_swept_by_the_name_that_trading_yaml_gives_it(project: Project):
    """`fast` is a ma_crossover of two names with a parameter of its own: the sweep is of that."""
    text = project.config.read_text()
    fast = {"kind": "ma_crossover", "enabled": False, "symbols": ["IBM"], "params": {"average": "ema"}}
    project.configure({"strategies": {"fast": fast}})
    try:
        options = ("--param", "short_period=2,3", "--param", "long_period=5", *RANGE, "--jobs", "1", "--engine", "fold")
        said = project.run("sweep", "fast", *options, "--json")
        assert said.code == 0, said.err
        assert (said.document["engine"], said.document["n_results"]) == ("fold", 2)
        shown = project.run("sweeps", "show", said.document["sweep_id"], "--json").document
        assert shown["strategy"] == "fast"
        assert shown["spec"]["fixed"] == {"average": "ema", "long_period": 5}
        again = project.run("sweep", "--resume", said.document["sweep_id"], "--json")
        assert again.document["best"] == said.document["best"]
        assert project.run("sweeps", "heatmap", said.document["sweep_id"], "--x", "long_period").code == 1
    finally:
        project.config.write_text(text)


def test_what_a_page_shows_of_a_name_is_escaped(project: Project):
    """Strategies, symbols and parameters are words of a configuration; a page takes none of them as markup."""
    with closing(connect(project.database_url)) as conn:
        result = backtest.run(project.settings(), conn, first=date(2005, 1, 3), last=date(2005, 1, 31))
        conn.rollback()
    evil = '<script>alert("x")</script>&$a$'
    named = replace(result, inputs=replace(result.inputs, strategies=(evil,)))
    shown = sheet.tear_sheet(named, project.settings())
    parts = tuple(replace(part, name=evil) for part in shown.strategies)
    trips = tuple(replace(trip, symbol=evil) for trip in shown.trips)
    told = replace(shown, strategies=parts, trips=trips, settings=((evil, evil),), hashes=((evil, evil),))
    names = {"x_name": evil, "y_name": evil, "x_labels": (evil,), "y_labels": (evil,)}
    heat = Heat(metric="sharpe", **names, mean=np.ones((1, 1)), n_sets=1)
    record = dict.fromkeys(("sweep_id", "strategy", "sample", "engine", "first_session", "last_session"), evil)
    figures = dict.fromkeys(("sharpe", "total_return", "max_drawdown", "n_trades"), 1.0)
    line = {"rank": 1, "params": {evil: evil}, "swept": figures, "folded": figures}
    pages = [tear_sheet(told), render({**record, "n_sets": 1, "metric": "sharpe"}, heat, [line])]
    for page in pages:
        assert "<script" not in page
        assert "&lt;script&gt;" in page, "not exercised: the name is there"
    assert kept.figures(shown)["round_trips"] == len(shown.trips)
