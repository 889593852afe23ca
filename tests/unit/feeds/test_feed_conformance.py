"""One list that every feed passes: a case each, by its id. What a feed cannot do is declared on its bench."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

import numpy as np
import pytest

from feed_benches import Bench, benches
from tradecore.errors import (
    AuthFailed,
    ConfigError,
    FeedError,
    MalformedData,
    NoDataYet,
    NoSuchSymbol,
    NotASession,
    Throttled,
    VendorDown,
)
from tradecore.feeds import BAR_DTYPE, FEEDS, Access, Feed
from tradecore.sessions import DAILY

Case = Callable[[Bench], None]
CASES: dict[str, Case] = {}


def case(needs: str = "") -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        function.needs = needs  # type: ignore[attr-defined]
        CASES[function.__name__] = function
        return function

    return add


def week(bench: Bench, feed: Feed | None = None, *symbols: str) -> np.ndarray:
    feed = feed or bench.open()
    return feed.bars(symbols or bench.symbols, DAILY, bench.first, bench.last, bench.calendar).rows


@case()
def bars_are_as_traded(bench: Bench) -> None:
    rows = week(bench)
    assert rows.dtype == BAR_DTYPE
    fields = ["symbol", "session_date", "open", "high", "low", "close", "volume"]
    found = [(r[0], str(r[1]), *r[2:]) for r in rows[fields].tolist()]
    assert [r[:2] for r in found] == [r[:2] for r in bench.truth()]
    np.testing.assert_allclose([r[2:] for r in found], [r[2:] for r in bench.truth()], rtol=1e-9)


@case()
def bars_end_with_their_session(bench: Bench) -> None:
    for row in week(bench):
        session = bench.calendar.session(row["session_date"].item())
        assert row["bar_end_ns"] == int(session.close_at.timestamp()) * 10**9


@case()
def bars_are_sorted_by_symbol_and_time(bench: Bench) -> None:
    rows = week(bench, None, *reversed(bench.symbols))
    assert rows[["symbol", "bar_end_ns"]].tolist() == sorted(rows[["symbol", "bar_end_ns"]].tolist())


@case()
def one_session_is_one_bar_a_symbol(bench: Bench) -> None:
    feed = bench.open()
    rows = feed.bars(bench.symbols, DAILY, bench.first, bench.first, bench.calendar).rows
    assert rows["symbol"].tolist() == sorted(bench.symbols)


@case()
def asked_again_it_says_the_same(bench: Bench) -> None:
    feed = bench.open()
    assert (week(bench, feed) == week(bench, feed)).all()


@case()
def an_unknown_symbol_alone_is_no_such_symbol(bench: Bench) -> None:
    with pytest.raises(NoSuchSymbol) as caught:
        week(bench, None, "ZZZZ" if bench.has_actions else "ZZZ-USD")
    assert caught.value.next_step


@case()
def no_symbol_is_no_bar(bench: Bench) -> None:
    if bench.has_faults:
        assert not bench.open().bars([], DAILY, bench.first, bench.last, bench.calendar).rows.size


@case()
def a_session_that_is_not_there_yet_is_no_data_yet(bench: Bench) -> None:
    last = date(2020, 1, 3) if bench.has_actions else date(2021, 12, 31)
    with pytest.raises(NoDataYet) as caught:
        bench.open().bars(bench.symbols, DAILY, last, last, bench.calendar)
    assert caught.value.retryable


@case()
def a_day_outside_the_calendar_is_refused(bench: Bench) -> None:
    with pytest.raises(NotASession):
        bench.open().bars(bench.symbols, DAILY, date(1990, 1, 2), bench.last, bench.calendar)


@case("actions")
def actions_have_ratio_amount_and_source(bench: Bench) -> None:
    (split,) = bench.open().actions(["AAPL"], date(2005, 2, 1), date(2005, 3, 1))
    assert (split.kind, split.ex_date, split.ratio_num, split.ratio_den) == ("split", date(2005, 2, 28), 2, 1)
    assert split.source == bench.open().name
    (dividend,) = bench.open().actions(["IBM"], date(2005, 2, 1), date(2005, 3, 1))
    assert (dividend.kind, dividend.ex_date, dividend.dividend_e6) == ("dividend", date(2005, 2, 8), 180_000)


@case("actions")
def actions_are_those_of_the_range_and_sorted(bench: Bench) -> None:
    feed, first, last = bench.open(), date(2005, 2, 1), date(2005, 3, 15)
    found = feed.actions(bench.symbols, first, last)
    assert [(a.symbol, a.ex_date) for a in found] == sorted((a.symbol, a.ex_date) for a in found)
    assert all(first <= a.ex_date <= last and a.symbol in bench.symbols for a in found)
    assert feed.actions(bench.symbols, first, first) == ()


@case("faults")
def too_many_requests_is_throttled(bench: Bench) -> None:
    expect(bench, "429", Throttled)


@case("faults")
def a_server_error_is_vendor_down(bench: Bench) -> None:
    expect(bench, "500", VendorDown)


@case("faults")
def a_cut_in_mid_body_is_vendor_down(bench: Bench) -> None:
    expect(bench, "cut", VendorDown)


@case("faults")
def silence_ends_at_the_time_limit(bench: Bench) -> None:
    if bench.name == "yahoo":  # its stand-in's silence has a length
        bench.standin.fault("timeout", seconds=1)
    else:
        bench.fault("timeout")
    with pytest.raises(VendorDown):
        week(bench, bench.open(timeout_s=0.3, attempts=1), bench.symbols[0])


@case("faults")
def a_page_of_a_gateway_is_malformed(bench: Bench) -> None:
    expect(bench, "page", MalformedData)


@case("faults")
def a_refused_key_is_auth_failed(bench: Bench) -> None:
    expect(bench, "401", AuthFailed)


@case("faults")
def a_fault_that_passes_is_overcome(bench: Bench) -> None:
    feed = bench.open()
    for kind in ("429", "500", "cut"):
        bench.fault(kind, times=1)
        assert len(week(bench, feed, bench.symbols[0])) == len(week(bench)) // len(bench.symbols)


@case("faults")
def each_request_waits_for_its_turn(bench: Bench) -> None:
    turns: list[int] = []
    access = Access(api_key=bench.access.api_key, secret_key=bench.access.secret_key, pace=lambda: turns.append(1))
    week(bench, bench.open(access), bench.symbols[0])
    assert turns


@case()
def an_option_that_nobody_knows_is_refused_with_the_nearest(bench: Bench) -> None:
    with pytest.raises(ConfigError, match=r"Did you mean name\?"):
        bench.open(nam="x")


@case()
def the_name_is_the_source(bench: Bench) -> None:
    assert bench.open().name == bench.name
    assert bench.open(name="other").name == "other"


@case()
def errors_travel_between_processes(bench: Bench) -> None:
    import pickle

    with pytest.raises(FeedError) as caught:
        week(bench, None, "ZZZZ" if bench.has_actions else "ZZZ-USD")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.message, again.next_step) == (
        type(caught.value),
        caught.value.message,
        caught.value.next_step,
    )


@case()
def the_last_session_is_known_for_folders_alone(bench: Bench) -> None:
    last = bench.open().last_session(bench.symbols)
    assert last is None if bench.has_faults else last == date(2013, 3, 1)


def expect(bench: Bench, kind: str, error: type[FeedError]) -> None:
    bench.fault(kind)
    with pytest.raises(error) as caught:
        week(bench, None, bench.symbols[0])
    assert type(caught.value) is error
    assert caught.value.next_step
    told = f"{caught.value} {caught.value!r} {caught.value.details}"
    for secret in (bench.access.api_key, bench.access.secret_key):
        assert not secret or secret not in told


@pytest.fixture(scope="module")
def all_benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Bench]]:
    with benches(tmp_path_factory.mktemp("benches")) as found:
        yield found


def test_every_feed_has_a_bench(all_benches: dict[str, Bench]) -> None:
    assert set(all_benches) == set(FEEDS)


@pytest.mark.parametrize("name", FEEDS)
@pytest.mark.parametrize("id_", CASES)
def test_conforms(all_benches: dict[str, Bench], name: str, id_: str) -> None:
    bench, case = all_benches[name], CASES[id_]
    needs = case.needs  # type: ignore[attr-defined]
    bench.reset()
    if needs == "faults" and not bench.has_faults:
        assert bench.standin is None, "a folder on this machine: nobody can throttle it or cut it off"
    elif needs == "actions" and not bench.has_actions:
        assert bench.open().actions(bench.symbols, bench.first, bench.last) == ()
    else:
        case(bench)
