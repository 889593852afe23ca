"""The form fields of the session DAGs, with what a person reads beside them in Airflow's form."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

DATE: dict[str, Any] = {"type": ["null", "string"], "format": "date"}
NAMED = "^replay:[a-z0-9._-]{1,50}$"


def own_book(name: str) -> dict[str, Param]:
    """Return the fields of the DAG that runs the configured book."""
    return {
        "session": _session(),
        "book": Param(name, type="string", enum=[name], title="Book", description="The one in trading.yaml."),
    }


def named_book() -> dict[str, Param]:
    """Return the fields of the DAG that runs a book of any name, and opens it if there is none."""
    begins = "Where a book begins that does not exist yet; a backfill needs it. A book that exists ignores it."
    name = (
        "'replay:' and a name of yours: each name is a book with its own cash and history. "
        "For a backfill tick 'Override parameters on existing runs': else Airflow sends no field."
    )
    return {
        "session": _session(),
        "book": Param("replay:default", type="string", pattern=NAMED, title="Book", description=name),
        "first_session": Param(None, **DATE, title="First session", description=begins),
    }


def _session() -> Param:
    which = "The trading session to run; the logical date does not matter. Empty: the book's next one."
    return Param(None, **DATE, title="Session", description=f"{which} In a backfill leave it empty.")
