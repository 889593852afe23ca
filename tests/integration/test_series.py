"""Alternative series: what was known when, in production, backtest and replay alike; a leak of them is caught."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest
from project_home import NOW, Project, make, open_for_trading

import sample_market
from tradecore import alternative, pipeline, provenance, strategies
from tradecore.errors import MalformedData, StrategyError
from tradecore.research import backtest, causality
from tradecore.storage import series

pytestmark = pytest.mark.db
DAY_NS = 86_400_000_000_000
STRATEGY = '''"""Hold what is cheap against its last published earnings."""

import numpy as np

from tradecore.strategies import strategy


@strategy(lookback_bars=3, series=("eps", "rate"))
def cheap(window):
    eps, rate = window.series("eps"), window.series("rate")
    worth = eps[-1] / rate[-1]
    return np.where(np.isnan(worth), np.nan, np.where(worth > window.close[-1], 1.0, 0.0))
'''


# What counts when, against a naive twin ----------------------------------------


def naive(said: list[tuple[int, int, float]], end: int) -> float:
    """Of what was known by then, the value about the latest time; of several, the last that was known."""
    best: tuple[int, int, float] | None = None
    for about, known, value in said:
        if known <= end and (best is None or (about, known) >= best[:2]):
            best = about, known, value
    return best[2] if best else float("nan")


def test_as_known_equals_a_naive_twin_and_later_statements_change_nothing_before():
    restated = 0
    for seed in range(300):
        rng = random.Random(seed)
        said = sorted(
            ((rng.randrange(9), rng.randrange(40), float(rng.randrange(99))) for _ in range(rng.randrange(15))),
            key=lambda s: s[1],
        )
        about, known, value = (np.array([s[k] for s in said]) for k in range(3)) if said else (np.zeros(0),) * 3
        statements = series.Statements(value_ns=about, known_ns=known, value=value)
        ends = np.arange(0, 42, 3)
        found = statements.as_known(ends)
        np.testing.assert_array_equal(found, [naive(said, int(e)) for e in ends])
        for t in (3, 8, 13):  # the causality of the reader itself: what comes later is not looked at
            np.testing.assert_array_equal(statements.until(int(ends[t])).as_known(ends)[: t + 1], found[: t + 1])
        restated += len({s[0] for s in said}) < len(said)
    assert restated > 200, "not exercised: a time that was spoken of twice"


# Files ----------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Project:
    """A book of three sessions that trades on series of the database."""
    made = make(tmp_path_factory.mktemp("series"), module_database_url)
    own = made.home / "include" / "strategies"
    own.mkdir(parents=True, exist_ok=True)
    (own / "cheap.py").write_text(STRATEGY)
    import yaml

    config = yaml.safe_load(made.config.read_text())
    config["strategies"] = {"cheap": {"capital_share": 1.0}}
    made.config.write_text(yaml.safe_dump(config, sort_keys=False))
    return made


@pytest.fixture(scope="module")
def traded(project: Project) -> Iterator[psycopg.Connection]:
    """The same, with its sessions traded."""
    from tradecore.storage.connection import connect

    with connect(project.database_url) as conn:
        open_for_trading(project, conn)
        days = project.sessions(5)
        write(project.home / "eps.csv", [
            ("AAPL", "2004-12-31", "2005-01-12", 9.0), ("IBM", "2004-12-31", "2005-01-18", 2.0),
            ("AAPL", "2005-03-31", f"{days[2]}T15:00", 0.5),  # known in the middle of the third session
        ])  # fmt: skip
        (project.home / "rate.csv").write_text("value,value_at,known_at\n0.05,2005-01-01,2005-01-03\n")
        load = {"source": "made", "now": NOW}
        assert alternative.load_file(conn, project.home / "eps.csv", name="eps", **load) == {"eps": 3}
        assert alternative.load_file(conn, project.home / "rate.csv", name="rate", **load) == {"rate": 1}
        assert alternative.load_file(conn, project.home / "eps.csv", name="eps", **load) == {"eps": 0}, "nothing new"
        project.trade(conn, *days)
        yield conn
    strategies.REGISTRY.pop("cheap", None)


def write(path: Path, lines: list[tuple[object, ...]]) -> None:
    path.write_text("\n".join(["symbol,value_at,known_at,value", *(",".join(map(str, line)) for line in lines)]) + "\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("symbol,value_at,known_at,value\nXXX,2005-01-01,2005-01-02,1\n", "line 2: 'XXX' is no symbol"),
        ("symbol,value_at,known_at,value\nIBM,2005-01-01,,1\n", "line 2: it has no known_at"),
        ("value_at,known_at,value\n2005-01-01,2005-01-02,1\n2005-01-01,2005-01-02,x\n", "line 3: ValueError"),
        ("value_at,known_at,value\n2005-01-01,2005-01-02,inf\n", "line 2: inf is no value"),
        ("value_at,known_at,value\n2005-01-01,2099-01-02,1\n", "which is still to come"),
        ("value_at,value\n2005-01-01\n", "line 2: TypeError"),
    ],
)
def test_a_file_that_does_not_say_when_is_refused_and_nothing_is_written(traded, tmp_path, text: str, said: str):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(MalformedData, match=said):
        alternative.load_file(traded, tmp_path / "x.csv", name="x", source="made", now=NOW)
    traded.rollback()
    assert traded.execute("SELECT count(*) FROM series_values WHERE series = 'x'").fetchone() == (0,)


# In the book, the backtest and the replay ----------------------------------------


def test_stages_backtest_and_daily_proof_see_the_same_values(project, traded):
    days = project.sessions(5)
    query = (
        "SELECT session_date, symbol, score FROM signals JOIN bar_runs USING (book, bar_end_at)"
        " JOIN instrument_symbols USING (instrument_id) WHERE strategy = 'cheap' ORDER BY 1, 2"
    )
    scores = {(d, s): score for d, s, score in traded.execute(query).fetchall()}
    aapl = [scores[d, "AAPL"] for d in days]
    assert aapl == [1.0, 1.0, 0.0, 0.0, 0.0], "the earnings published at 15:00 count at that session's close"
    assert [scores[d, "IBM"] for d in days] == [0.0] * 5
    assert np.isnan(scores[days[0], "MSFT"]), "nothing is known of it"
    inputs = backtest.load(project.settings(), traded, first=days[0], last=days[-1])
    names = list(inputs.symbols)
    for t, day in enumerate(days):
        for k, symbol in enumerate(names):
            assert inputs.scores[t, 0, k] == scores[day, symbol] or np.isnan(scores[day, symbol])
    proofs = traded.execute("SELECT session_date, verdict FROM day_proofs ORDER BY 1").fetchall()
    assert not proofs or {v for _, v in proofs} == {"equal"}
    ctx = pipeline.context(project.settings(), traded, book="sim", session_date=days[1], now=NOW)
    assert pipeline.prove(ctx)["proof"] == "equal"


def test_a_value_that_comes_later_changes_no_replay_and_is_named_when_data_of_now_are_asked_for(project, traded):
    from tradecore.research.replay import run

    days = project.sessions(5)
    write(project.home / "late.csv", [("AAPL", "2004-12-31", "2005-01-20", 0.1)])
    later = NOW + timedelta(days=1)
    alternative.load_file(traded, project.home / "late.csv", name="eps", source="made", now=later)
    ctx = pipeline.context(project.settings(), traded, book="sim", session_date=days[1], now=later)
    assert pipeline.prove(ctx)["proof"] == "equal", "as of the decision it was not there"
    traded.rollback()
    now = run.replay(ctx, as_of=None, as_now=True)
    assert now["equal"] is False
    assert [(b["kind"], b["field"], b["after"]) for b in now["bars"]][:1] == [("series", "eps", 0.1)]
    traded.rollback()


# Causality ----------------------------------------

LEAKS = {
    "shifted": ('''
def panel(window, out, lookback):
    eps = window.series("eps")
    later = np.vstack([eps[1:], eps[-1:]])  # the value of the next row: published after this close
    out[lookback - 1:] = (later > 0.5)[lookback - 1:]
    return out
''', "the next bar: shift(-1)"),
    "mean": ('''
def panel(window, out, lookback):
    eps = window.series("eps")
    out[lookback - 1:] = (eps > np.nanmean(eps, axis=0))[lookback - 1:]
    return out
''', "a figure of the whole sample"),
}  # fmt: skip


def with_series(seed: int = 1) -> tuple[object, dict[int, series.Statements]]:
    """A panel of the sample with made-up earnings: every 20 bars, published 15 days after their quarter's end."""
    bare = sample_market.panel(("AAPL", "IBM")).rows(1000, 1160)
    rng = np.random.default_rng(seed)
    said = {}
    for i in (bare.instruments[k].instrument_id for k in range(2)):
        about = bare.bar_end_ns[::20] - 7 * DAY_NS
        said[i] = series.Statements(value_ns=about, known_ns=about + 15 * DAY_NS, value=rng.random(about.size))
    ids = [i.instrument_id for i in bare.instruments]
    cells = series.panels({"eps": said}, instruments=ids, bar_end_ns=bare.bar_end_ns)
    return replace(bare, series=cells), said


def proved(name: str, text: str, folder: Path, panel, series_at=None) -> causality.Proof:
    (folder / f"{name}.py").write_text(
        f"import numpy as np\nfrom tradecore.strategies import strategy\n\n{text}\n\n"
        f"@strategy(lookback_bars=2, series=('eps',){', panel=panel' if 'def panel' in text else ''})\n"
        f"def {name}(window):\n    return np.where(window.series('eps')[-1] > 0.5, 1.0, 0.0)\n"
    )
    rule = strategies.load(name, folder)
    try:
        return causality.prove(
            rule, rule.params_model(), panel, rng=np.random.default_rng(1), series_at=series_at,
            bars=np.arange(1, panel.day.size, 3),
        )  # fmt: skip
    finally:
        strategies.REGISTRY.pop(name)


@pytest.mark.parametrize("name", sorted(LEAKS))
def test_a_planted_leak_of_a_series_is_caught(tmp_path, name: str):
    panel, _ = with_series()
    proof = proved(name, LEAKS[name][0], tmp_path, panel)
    assert not proof.holds
    assert LEAKS[name][1] in proof.suspicion, proof.message


def test_a_value_used_before_it_was_known_is_caught_and_named(tmp_path):
    """Planted in the reader: values joined by what they are about, as if each were published on that day."""
    panel, said = with_series()
    ids = [i.instrument_id for i in panel.instruments]

    def series_at(t: int) -> dict[str, np.ndarray]:
        then = {i: s.until(int(panel.bar_end_ns[t])) for i, s in said.items()}
        return series.panels({"eps": then}, instruments=ids, bar_end_ns=panel.bar_end_ns[: t + 1])

    assert proved("honest_eps", "", tmp_path, panel, series_at).holds
    early = {i: replace(s, known_ns=s.value_ns) for i, s in said.items()}
    leaking = replace(panel, series=series.panels({"eps": early}, instruments=ids, bar_end_ns=panel.bar_end_ns))
    proof = proved("early_eps", "", tmp_path, leaking, series_at)
    assert set(proof.differing) == {"known"}
    assert "an alternative series is read before it was known" in proof.suspicion


def test_a_series_that_is_not_declared_or_not_there_is_an_error_of_the_strategy_alone(tmp_path):
    panel, _ = with_series()
    (tmp_path / "undeclared.py").write_text(
        "from tradecore.strategies import strategy\n\n\n@strategy(lookback_bars=2)\n"
        "def undeclared(window):\n    return window.series('pe')[-1]\n"
    )
    rule = strategies.load("undeclared", tmp_path)
    with pytest.raises(StrategyError, match="no series 'pe' here; there is: eps"):
        strategies.score_last(rule, rule.params_model(), panel.rows(0, 2))
    strategies.REGISTRY.pop("undeclared")


def test_a_hash_of_data_names_the_series_in_it():
    panel, _ = with_series()
    other, _ = with_series(2)
    bare = panel.with_series(())
    assert len({provenance.data_hash(p) for p in (panel, other, bare)}) == 3
    assert provenance.data_hash(panel) == provenance.data_hash(with_series()[0])
