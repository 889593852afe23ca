"""All brokers pass the same list (broker_conformance.py); what one cannot do is declared with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from _pytest.outcomes import Failed

from broker_benches import BENCHES, SimulatedBench, StandinBench, opened
from broker_conformance import CASES, REPLACE, TYPES, Case, code
from tradecore.errors import BrokerError, Rejected, Unavailable
from tradecore.execution import alpaca, alpaca_http, alpaca_records
from tradecore.execution.alpaca_records import order_body
from tradecore.storage.connection import connect

APPLICABLE = [
    (name, case) for name, bench in BENCHES.items() for case in CASES if not set(case.needs) & set(bench.lacks)
]


@pytest.fixture(scope="module")
def database(module_database_url: str) -> Iterator[psycopg.Connection]:
    connection = connect(module_database_url)
    yield connection
    connection.close()


@pytest.mark.parametrize("name, case", APPLICABLE, ids=[f"{name}-{case.id}" for name, case in APPLICABLE])
def test_broker(name: str, case: Case, database: psycopg.Connection):
    with opened(name, database) as bench:
        if set(case.needs) & set(bench.refuses):
            with pytest.raises(Rejected) as caught:
                case.run(bench)
            assert caught.value.details["code"] == "not_built"
            return
        case.run(bench)
        if isinstance(bench, StandinBench):
            assert len(bench.venue.faults.fired) == len(bench.venue.faults.faults), "a fault of the case did not fire"


def test_the_list_is_whole():
    assert len(CASES) >= 60
    assert len({case.id for case in CASES}) == len(CASES)
    assert all(case.line and case.line.endswith(".") and "\n" not in case.line for case in CASES)
    groups = Counter(case.group for case in CASES)
    assert len(groups) >= 9
    ran = Counter(name for name, _ in APPLICABLE)
    for name, bench in BENCHES.items():
        refused = sum(bool(set(case.needs) & set(bench.refuses)) for who, case in APPLICABLE if who == name)
        print(
            f"proof: {name}: {ran[name]} of {len(CASES)} cases ({refused} refused as not built), "
            f"{len(CASES) - ran[name]} declared not applicable"
        )
        assert ran[name] >= 60
        assert all(len(reason) > 10 for reason in bench.lacks.values())
        assert set(bench.lacks) <= {need for case in CASES for need in case.needs}, "a reason that no case needs"
    assert ran["alpaca-http"] == ran["alpaca-in-process"] == len(CASES)


@pytest.mark.parametrize(
    "changes",
    [
        {"order_type": "limit", "limit_price": Decimal(90)},
        {"order_type": "stop", "stop_price": Decimal(90)},
        {"time_in_force": "cls"},
        {"time_in_force": "gtc"},
        {"time_in_force": "ioc"},
        {"take_profit": Decimal(120), "stop_loss": Decimal(80)},
        {"extended_hours": True},
    ],
    ids=str,
)
def test_what_the_simulated_venue_lacks_is_refused_as_not_built(changes: dict, database: psycopg.Connection):
    assert {TYPES, REPLACE} <= set(SimulatedBench.refuses)
    with opened("simulated", database) as bench:
        assert code(lambda: bench.send("one", **changes)) == "not_built"
        assert bench.broker.order("one") is None
        assert code(lambda: bench.replace(bench.send("two"), "three", Decimal(1), None)) == "not_built"


@pytest.mark.parametrize(
    "where, name, planted, noticed_by",
    [
        (alpaca, "FILLS_OVERLAP", timedelta(0), "FILL-7"),
        (alpaca_http, "unclear", lambda method, message, **details: Unavailable(message, **details), "ERR-1"),
        (alpaca_http, "refusal_code", lambda method, status, message: "other", "ID-1"),
        (alpaca_records, "sign_of", lambda document: 1, "LIFE-14"),
        (alpaca_records, "family", lambda document: [alpaca_records.order_of(document)], "BRK-1"),
        (alpaca.records, "order_body", lambda order: {**order_body(order), "client_order_id": "x"}, "ID-7"),
    ],
    ids=lambda value: value if isinstance(value, str) and "-" in value else "",
)
def test_a_planted_fault_turns_its_case_red(
    where: Any, name: str, planted: object, noticed_by: str, database: psycopg.Connection, monkeypatch: Any
):
    (noticing,) = (case for case in CASES if case.id == noticed_by)
    monkeypatch.setattr(where, name, planted)
    with opened("alpaca-in-process", database) as bench, pytest.raises((AssertionError, BrokerError, Failed)):
        noticing.run(bench)
