"""The causality proof: planted leaks are caught and named, the built-in strategies pass, and so does honest pandas."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import sample_market
from tradecore import strategies
from tradecore.bars import Panel
from tradecore.research import adjustment, causality, dated_files, warm_up
from tradecore.storage.bars import Action
from tradecore.units import from_day

LEAKS = Path(__file__).resolve().parents[2] / "leaks"
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
FIRST, LAST = 1000, 1220  # 2004-02 to 2004-12: GOOG is listed in it
# leak -> what the proof must suspect
PLANTED = {
    "next_bar": "the next bar: shift(-1)",
    "centred_window": "10 bars ahead: a centred window of 21 bars",
    "full_sample_z": "a figure of the whole sample",
    "higher_timeframe": "the week's bar before the week has ended",
    "next_event": "the next event joined to the bars before it (merge_asof with direction forward",
    "resampled": "the month's bar before the month has ended: bars resampled with right-closed bins",
}


def history(first: int = FIRST, last: int = LAST, symbols: tuple[str, ...] = SYMBOLS) -> Panel:
    return sample_market.panel(symbols).rows(first, last)


def prove(name: str, panel: Panel, folder: Path | None = None, **rest: object) -> causality.Proof:
    rule = strategies.load(name, folder)
    return causality.prove(rule, rule.params_model(), panel, rng=np.random.default_rng(1), **rest)


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_leak_is_caught_at_its_first_session_and_named(name: str):
    panel = history(FIRST, 1160, ("AAPL", "IBM"))
    proof = prove(name, panel, LEAKS)
    assert not proof.holds
    assert proof.first is not None
    assert PLANTED[name] in proof.suspicion
    assert f"{proof.first.symbol} at {proof.first.session_date}: " in proof.message
    # the first session: before it no row changes with the end of the history, there one does
    rule = strategies.load(name, LEAKS)
    params, t, i = rule.params_model(), proof.first.t, proof.first.column
    full = strategies.score_panel(rule, params, panel)
    assert proof.first.session_date == from_day(int(panel.day[t]))
    assert proof.first.full == full[t, i] or np.isnan(full[t, i])
    later = [d for d in proof.seen if (d.t, d.column) < (t, i)]
    assert not later
    # and each bar was visited in each of the ways
    ways = 2 + len(causality.POISONS) + 1
    assert proof.comparisons == ways * 2 * (panel.day.size - rule.lookback(params) + 1)


@pytest.mark.parametrize("name", strategies.BUILT_IN)
def test_built_in_strategies_pass(name: str):
    """A bar in seventeen here; every bar: test_built_in_strategies_pass_at_every_bar."""
    panel = history(FIRST - 300, LAST)
    proof = prove(name, panel, bars=np.arange(260, panel.day.size, 17))
    assert proof.holds, proof.message
    assert proof.comparisons >= 15 * 4 * 6


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_built_in_strategies_pass_at_every_bar():
    bars = scores = 0
    for name in strategies.BUILT_IN:
        proof = prove(name, sample_market.panel())
        assert proof.holds, f"{name}: {proof.message}"
        bars, scores = bars + proof.bars, scores + proof.comparisons
    print(f"proof: {len(strategies.BUILT_IN)} strategies, {bars} bars, {scores} recomputed scores equal to the bit")


def test_honest_pandas_passes(tmp_path):
    """A rolling mean over the look-back alone, in a panel form of its own."""
    (tmp_path / "honest.py").write_text(
        "import numpy as np\nimport pandas as pd\nfrom tradecore.strategies import strategy\n\n\n"
        "def panel(window, out, lookback, *, period):\n"
        "    close = pd.DataFrame(window.close)\n"
        "    lowest = close.rolling(period).min()\n"
        "    out[lookback - 1:] = np.where(lowest.isna(), np.nan, close > 1.05 * lowest)[lookback - 1:]\n"
        "    return out\n\n\n"
        "@strategy(lookback_bars=lambda p: p.period, panel=panel)\n"
        "def honest(window, *, period: int = 20):\n"
        "    lowest = window.close.min(axis=0)\n"
        "    return np.where(np.isnan(lowest), np.nan, window.close[-1] > 1.05 * lowest)\n"
    )
    proof = prove("honest", history(), tmp_path)
    assert proof.holds, proof.message
    strategies.REGISTRY.pop("honest")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return RNG.random(window.close.shape[1])", "chance, or something kept"),
        ("SEEN.append(1)\n    return np.full(window.close.shape[1], len(SEEN) % 7 / 7)", "chance, or something kept"),
        ("return np.where(window.close[-1] > LAST.setdefault('x', window.close[-1]), 1.0, 0.0)", "kept from one call"),
    ],
)
def test_chance_and_memory_between_calls_are_caught(tmp_path, body: str, said: str):
    (tmp_path / "moody.py").write_text(
        "import numpy as np\nfrom tradecore.strategies import strategy\n\n"
        "RNG, SEEN, LAST = np.random.default_rng(), [], {}\n\n\n"
        f"@strategy(lookback_bars=5)\ndef moody(window):\n    {body}\n"
    )
    rule = strategies.load("moody", tmp_path)
    panel = history(symbols=("AAPL", "IBM"))
    if "setdefault" in body:  # what it kept is of the first bar that it ever saw: of the full run, so far
        full = strategies.score_panel(rule, rule.params_model(), panel)
        assert np.nanmax(full) == 1.0
        proof = causality.prove(rule, rule.params_model(), panel, rng=np.random.default_rng(1))
        assert proof.holds, "a memory that does not change any more is a parameter: the same in every run"
    else:
        proof = causality.prove(rule, rule.params_model(), panel, rng=np.random.default_rng(1))
        assert not proof.holds
        assert said in proof.suspicion
    strategies.REGISTRY.pop("moody")


def test_a_panel_form_that_needs_more_than_its_look_back_is_told_apart_from_the_future(tmp_path):
    (tmp_path / "recursive.py").write_text(
        "import numpy as np\nimport pandas as pd\nfrom tradecore.strategies import strategy\n\n\n"
        "def panel(window, out, lookback):\n"
        "    close = pd.DataFrame(window.close)\n"
        "    out[lookback - 1:] = (close / close.ewm(span=40).mean()).clip(0, 2)[lookback - 1:]\n"
        "    return out\n\n\n"
        "@strategy(lookback_bars=20, panel=panel)\n"
        "def recursive(window):\n"
        "    return np.clip(window.close[-1] / pd.DataFrame(window.close).ewm(span=40).mean().to_numpy()[-1], 0, 2)\n"
    )
    proof = prove("recursive", history(symbols=("AAPL", "IBM")), tmp_path)
    assert not proof.holds
    assert proof.suspicion.startswith("not the future: the panel form uses more bars than lookback_bars")
    strategies.REGISTRY.pop("recursive")


def test_what_a_strategy_raises_on_is_told(tmp_path):
    (tmp_path / "brittle.py").write_text(
        "import numpy as np\nfrom tradecore.strategies import strategy\n\n\n"
        "def panel(window, out, lookback):\n"
        "    if np.isnan(window.close).any():\n        raise ValueError('a hole')\n"
        "    out[lookback - 1:] = 1.0\n    return out\n\n\n"
        "@strategy(lookback_bars=5, panel=panel)\ndef brittle(window):\n    return np.ones(window.close.shape[1])\n"
    )
    proof = prove("brittle", history(symbols=("AAPL", "IBM")), tmp_path)
    assert not proof.holds
    assert "ValueError: a hole, with the later bars taken away" in proof.message
    strategies.REGISTRY.pop("brittle")


# -------------------------------------------------------------------------------------------- poison, files, actions


@pytest.mark.parametrize("kind", causality.POISONS)
def test_poison_changes_every_later_bar_and_none_before(kind: str):
    panel, t = history(), 100
    other = causality.poisoned(panel, t, kind, np.random.default_rng(0))
    for name in ("open", "high", "low", "close", "volume", "traded", "adj_factor"):
        np.testing.assert_array_equal(getattr(other, name)[: t + 1], getattr(panel, name)[: t + 1])
    np.testing.assert_array_equal(other.day, panel.day)
    changed = (other.close != panel.close)[t + 1 :].any(axis=1)
    assert changed.all() if kind != "shuffled" else changed.mean() > 0.95
    assert (other.close[t + 1 :][other.traded[t + 1 :]] > 0).all()


def test_a_future_dated_corporate_action_is_caught():
    """A strategy that adjusts backwards with a file of actions: the split of 2005-02-28 shows in every score before."""
    rule, panel = strategies.load("future_action", LEAKS), history(FIRST, 1060)
    params = rule.params_model(below_usd=40.0, actions=str(sample_market.SAMPLE / "corporate_actions.csv"))
    with dated_files.cutter(params, panel) as params_at:
        proof = causality.prove(rule, params, panel, rng=np.random.default_rng(1), params_at=params_at)
    assert not proof.holds
    assert set(proof.differing) == {"file"}
    assert (proof.first.symbol, proof.first.full, proof.first.found) == ("AAPL", 1.0, 0.0)
    assert str(proof.first.session_date) == str(from_day(int(panel.day[1]))), "its first row with a look-back"
    assert "a corporate action before its ex-date" in proof.message


def test_a_file_read_up_to_the_session_passes(tmp_path):
    text = (LEAKS / "future_action.py").read_text().replace('["ex_date"] > today', '["ex_date"] <= today')
    (tmp_path / "past_action.py").write_text(text.replace("future_action", "past_action"))
    rule, panel = strategies.load("past_action", tmp_path), history(1220, 1270)
    params = rule.params_model(below_usd=60.0, actions=str(sample_market.SAMPLE / "corporate_actions.csv"))
    with dated_files.cutter(params, panel) as params_at:
        proof = causality.prove(rule, params, panel, rng=np.random.default_rng(1), params_at=params_at)
    assert proof.holds, proof.message
    scores = strategies.score_panel(rule, params, panel)
    assert len(set(scores[1:, 0].tolist())) == 2, "not exercised: the split does not show"


def test_what_became_known_after_the_close_is_cut_away_from_its_session(tmp_path):
    """A time of day counts: known at 22:00 UTC is after the close of New York; a date alone is within its session."""
    rule, panel = strategies.load("future_action", LEAKS), history(1220, 1226)
    day = [str(from_day(int(d))) for d in panel.day]
    (tmp_path / "news.csv").write_text(
        f"known_at,what\n{day[1]}T15:00:00,in the session\n{day[1]} 22:00:00+00:00,after it\n"
        f"{day[2]},some time\n{day[3]}T00:00:00,midnight\n"
    )
    params = rule.params_model(actions=str(tmp_path / "news.csv"))
    with dated_files.cutter(params, panel) as params_at:
        seen = [Path(params_at(t).actions).read_text().count("\n") - 1 for t in range(5)]
    assert seen == [0, 1, 3, 4, 4]


def actions(panel: Panel) -> adjustment.Actions:
    found = [
        Action(
            instrument_id=i.instrument_id,
            ex_date=from_day(day),
            kind="split" if num != den else "dividend",
            ratio_num=num,
            ratio_den=den,
            dividend_e6=dividend,
            pay_date=None,
            known_at=None,  # type: ignore[arg-type]
        )
        for i in panel.instruments
        for day, (num, den, dividend) in sample_market.actions(i.symbol).items()
    ]
    return adjustment.actions_of(panel, found)


def test_forward_adjusted_prices_know_no_later_action_and_backward_adjusted_ones_do():
    panel = history(0, 1500)
    found = actions(panel)
    assert (found.split != 1.0).sum() == 3
    assert (found.dividend_usd != 0.0).sum() > 20
    proof = adjustment.prove_adjustment(panel, found)
    assert proof.holds, proof.message
    leaky = adjustment.prove_adjustment(panel, found, adjust=adjustment.backward)
    assert not leaky.holds
    assert leaky.message.startswith(
        "the adjusted price of AAPL at 2000-03-01 changes with a corporate action dated after"
    )


def test_a_stored_factor_that_no_action_explains_is_found():
    panel = history(0, 400)
    factor = panel.adj_factor.copy()
    factor[200:, 2] *= 1.01
    proof = adjustment.prove_adjustment(
        dataclasses.replace(panel, adj_factor=factor), actions(panel), bars=np.array([9])
    )
    assert proof.stored == (from_day(int(panel.day[200])), "IBM")


# ----------------------------------------------------------------------------------------------------------- warm-up


def test_a_windowed_rule_does_not_change_with_a_longer_history_and_a_recursive_one_does(tmp_path):
    panel = history(0, 900, ("AAPL", "IBM", "MSFT"))
    bars = np.arange(0, 900, 5)
    rule = strategies.load("donchian_breakout")
    for found in warm_up.warm_up(rule, rule.params_model(), panel, bars=bars):
        assert (found.changed, found.largest) == (0, 0.0)
        assert found.compared == 3 * sum(t >= 4 * 21 - 1 for t in bars)
    (tmp_path / "short_ema.py").write_text(
        "import numpy as np\nimport pandas as pd\nfrom tradecore.strategies import strategy\n\n\n"
        "@strategy(lookback_bars=10)\ndef short_ema(window):\n"
        "    return np.clip(window.close[-1] / pd.DataFrame(window.close).ewm(span=50).mean().to_numpy()[-1], 0, 2)\n"
    )
    rule = strategies.load("short_ema", tmp_path)
    two, four = warm_up.warm_up(rule, rule.params_model(), panel, bars=bars)
    assert two.changed_frac > 0.99
    assert 0.01 < two.largest < four.largest
    strategies.REGISTRY.pop("short_ema")
