"""Planted faults: small changes of the source that some comparison must notice, or the comparison proves nothing.

Each is a list of texts to replace in one file; a text must stand there exactly once, so that a mutant that no longer
fits the source says so. Tried by tests/integration/test_mutants.py (`make mutants` tries them all).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EXECUTION, PORTFOLIO = "execution/_kernels.py", "portfolio/_kernels.py"
BACKTEST, RISK = "backtest/_kernels.py", "risk/_kernels.py"
MATCHING = "execution/matching/_kernels.py"
PLANNING, ACTIONS, DECIDING = (
    "portfolio/planning/_kernels.py",
    "backtest/actions/_kernels.py",
    "backtest/deciding/_kernels.py",
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted fault: its name, the file below include/tradecore, and the (old, new) texts."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    refused: bool = False  # the database or the code refuses it before there is anything to compare

    def apply(self, root: Path) -> str:
        """Plant it in the tree below root; return the file as it was. Raises ValueError if it does not fit."""
        path = root / "include/tradecore" / self.file
        before = path.read_text(encoding="utf-8")
        path.write_text(self.planted(before), encoding="utf-8")
        return before

    def planted(self, text: str) -> str:
        """Return the file's text with the fault in it. Raises ValueError if it does not fit."""
        for old, new in self.edits:
            if text.count(old) != 1:
                raise ValueError(f"mutant {self.name!r}: {text.count(old)} times in {self.file}: {old!r}")
            text = text.replace(old, new)
        return text


KERNEL = (
    Mutant(
        "a buy is rounded to the tick towards us",
        EXECUTION,
        (("up = unit - 1 if buy else 0", "up = 0"),),
    ),
    Mutant(
        "planning forgets working orders",
        PLANNING,
        (
            ("working, delta = scratch.working[i]", "working, delta = 0"),
            ("lack = target - qty - works", "lack = target - qty"),
        ),
    ),
    Mutant(
        "buys before sells",
        MATCHING,
        (("sells += rem < 0\n        buys += rem > 0", "sells += rem > 0\n        buys += rem < 0"),),
    ),
    Mutant("no least commission", EXECUTION, (("max(params.commission_min_e4, fee)", "fee"),)),
    Mutant(
        "participation per order, not per bar",
        MATCHING,
        (
            (
                "participation_ppm, step) - scratch.used[i]\n    qty = min",
                "participation_ppm, step)\n    qty = min",
            ),
        ),
    ),
    Mutant(
        "the fee is part of a lot's cost",
        EXECUTION,
        (("side * opened, again, ns)", "side * (opened + fee), again, ns)"),),
    ),
    Mutant("orders live a bar too long", MATCHING, (("order[O_AGE] < params", "order[O_AGE] <= params"),)),
    Mutant(
        "last in first out",
        PORTFOLIO,
        (("k = index(head)\n", "k = head + count - 1\n"), ("head += 1\n", "head += 0\n")),
    ),
    Mutant(
        "dividends before splits",
        BACKTEST,
        (
            (
                "    if splits + scratch.pending[P_SPLIT] > 0:\n"
                "        apply_splits(book, bar, instruments, journal, scratch, ns)\n",
                "",
            ),
            (
                "        return apply_dividends(book, bar, head[H_DAY], journal, scratch, ns)\n",
                "        apply_dividends(book, bar, head[H_DAY], journal, scratch, ns)\n"
                "    if splits + scratch.pending[P_SPLIT] > 0:\n"
                "        apply_splits(book, bar, instruments, journal, scratch, ns)\n",
            ),
        ),
    ),
    Mutant(
        "a split leaves parts of a lot",
        ACTIONS,
        (("new_qty = trunc_to(exact, instruments.step[i])", "new_qty = exact"),),
    ),
    Mutant(
        "the next split does not reach the price",
        DECIDING,
        (("mul_div_round(ref[i], split_den[i], split_num[i])", "ref[i]"),),
    ),
    Mutant("the peak survives a halt", BACKTEST, (("book.acct[PEAK] = book.acct[EQUITY]", "book.acct[PEAK] += 0"),)),
    Mutant("a halt leaves sells working", BACKTEST, (("if state == HALTED or rest >", "if rest >"),)),
    Mutant(
        "the daily loss counts from yesterday's bar", BACKTEST, (("if head[H_FIRST] == 1:", "if head[H_LAST] == 1:"),)
    ),
    Mutant(
        "calm names get more than the cap",
        RISK,
        (("most * min(1.0, aim / seen)", "most * (aim / seen)"),),
    ),
    Mutant(
        "turnover counts one side",
        RISK,
        (("change, price = abs(target[i] - qty[i])", "change, price = max(0, target[i] - qty[i])"),),
    ),
)

SHELL = (
    Mutant(
        "a carry is lost",
        "storage/books.py",
        (
            (
                'carried = conn.execute(SQL["carried_when_decided" if decided else "carried"], key).fetchall()',
                "carried: list[tuple[Any, ...]] = []",
            ),
        ),
    ),
    Mutant(
        "a short look-back",
        "market.py",
        (("rows(end - rule.lookback_bars, end)", "rows(end - rule.lookback_bars // 3, end)"),),
    ),
    Mutant(
        "settle after signal",
        "pipeline.py",
        (
            ('    run("settle", lambda: settle(ctx))\n', ""),
            (
                '        for stage, function in (("risk", risk)',
                '        run("settle", lambda: settle(ctx))\n        for stage, function in (("risk", risk)',
            ),
        ),
        refused=True,  # a signal is scored for the book after the bar, and there is none yet
    ),
    Mutant(
        "the decision is made on the book before the bar",
        "decision.py",
        (
            (
                "loaded = books.load(ctx.conn, ctx.book, ctx.bar_end_at, axes",
                "loaded = books.load(ctx.conn, ctx.book, ctx.previous_bar_end, axes",
            ),
        ),
    ),
    Mutant(
        "the window ends a bar early",
        "decision.py",
        (
            (
                "ends = market.bar_ends_until(ctx.calendar, ctx.bar_end_at, ctx.record.timeframe, rows)",
                "ends = market.bar_ends_until(ctx.calendar, ctx.previous_bar_end, ctx.record.timeframe, rows)",
            ),
        ),
    ),
    Mutant("orders do not age", "storage/books.py", (("O_AGE: age,", "O_AGE: 0,"),)),
    Mutant(
        "the trading state is lost",
        "storage/books.py",
        (("book.acct[:N_ORDERS] = row[:N_ORDERS]", "book.acct[:7] = row[:7]"),),
    ),
    Mutant(
        "which strategy holds what is lost",
        "storage/books.py",
        (("where[instrument]] = qty\n    slot", "where[instrument]] = 0\n    slot"),),
    ),
    Mutant(
        "the next bar's split is not looked up",
        "settlement.py",
        (("until: date = ctx.calendar.session_of(ctx.next_bar_end)", "until: date = ctx.session_date"),),
    ),
)
