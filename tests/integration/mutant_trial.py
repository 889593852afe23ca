"""One comparison as a program, for a tree with or without a planted fault. Exit 0: all equal; 3: red; else an error.

    python mutant_trial.py reference            random worlds: settle, decide and plan against the Decimal day loop
    python mutant_trial.py stages CONFIG BOOK   a few real sessions: the stages one by one against one backtest

Run with NUMBA_DISABLE_JIT=1 the kernels are plain Python: a changed kernel is tried without compiling it.
"""

from __future__ import annotations

import sys
from datetime import date, datetime
from pathlib import Path

GREEN, RED, REFUSED = 0, 3, 4
WORLDS = 250
FIRST_BAR, FIRST, LAST = date(2004, 11, 15), date(2005, 2, 23), date(2005, 3, 2)


def against_reference() -> None:
    """Compare world by world until one differs."""
    from random_market import random_world
    from test_parity import compare

    for seed in range(WORLDS):
        compare(random_world(seed, 1 + seed % 4, 40, 1 + seed % 3, surprises=seed % 5 == 0))


def stages_against_fold(config: str, book: str) -> None:
    """Run the sessions in the pipeline's own order, then fold them."""
    from parity_case import Stages, compare_scores, compare_with_fold, read_back, run_fold
    from random_market import book_quanta

    from tradecore import pipeline, settings
    from tradecore.context import book_calendar
    from tradecore.storage.connection import connect

    found = settings.load(config=Path(config))
    days = book_calendar(found).sessions_in_range(FIRST, LAST)
    with connect(found.database_url or "") as conn:
        pipeline.open_book(found, conn, book=book, before=FIRST, now=_close(days[0]))
        left = []
        for day in days:
            for ctx in pipeline.contexts(found, conn, book=book, session_date=day, now=_close(day)):
                pipeline.run_bar(ctx)
                left.append(book_quanta(read_back(ctx)))
                conn.rollback()
        inputs, fold = run_fold(found, conn, days)
        compare_scores(conn, book, inputs)
        compare_with_fold(Stages(books=left, hashes=[]), inputs, fold)
        rows = "SELECT count(*) FROM {} WHERE book = %s"
        for table in ("fills", "book_working_orders", "state_events"):
            count = conn.execute(rows.format(table), (book,)).fetchone()  # type: ignore[arg-type]
            print(f"{table} {count[0] if count else 0}")


def _close(day: date) -> datetime:
    from tradecore.sessions import calendar

    return calendar("XNYS").session(day).close_at


def main(arguments: list[str]) -> int:
    """Run the comparison that is named; say in one line what it found."""
    from tradecore.errors import BookError

    try:
        if arguments[0] == "reference":
            against_reference()
        else:
            stages_against_fold(*arguments[1:])
    except AssertionError as error:
        print(f"red: {' '.join(str(error).split())[:300]}")
        return RED
    except BookError as error:
        print(f"refused: {error.message}")
        return REFUSED
    return GREEN


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
