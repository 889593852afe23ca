"""Corporate actions reach the book: splits, dividends and what is owed of them. Rules: docs/STEP.md, settle 2 and 3."""

from __future__ import annotations

from tradecore._kernels import inlined, kernel, mul_div_round, mul_div_trunc, trunc_to
from tradecore.model import (
    CANCELED,
    CASH,
    DIVIDENDS,
    EV_CASH_IN_LIEU,
    EV_DELISTED,
    EV_DIVIDEND,
    EV_DIVIDEND_ASSUMED_PAID,
    EV_RECEIVABLE_PAID,
    EV_SPLIT,
    H_QUIET,
    N_ORDERS,
    NEVER,
    O_INSTR,
    O_REM,
    P_COUNT,
    P_OWED,
    P_SPLIT,
    REALISED,
    RECEIVABLE_SLOTS,
)
from tradecore.portfolio._kernels import log_end, log_event, remove_orders, split_allocations, split_lots, split_order


@inlined
def actions_at(bar):
    """Return how many names split at a bar, and how many go ex."""
    splits, dividends = 0, 0
    for i in range(bar.dividend.shape[0] if bar.head[H_QUIET] == 0 else 0):
        num, den, dividend = bar.split_num[i], bar.split_den[i], bar.dividend[i]
        splits += num != 1 or den != 1
        dividends += dividend > 0
    return splits, dividends


@kernel
def close_delisted(book, i, price_e6, journal, ns):
    """Settle 2, a delisting: what is held is paid at the stated price e6 a share, and the name is as never seen."""
    qty, head = book.qty[i], book.lot_head[i]
    amount = mul_div_round(qty, price_e6, 100_000_000)
    if qty != 0:
        book.acct[CASH] += amount
        book.acct[REALISED] += amount
        for k in range(head, head + book.lot_count[i]):
            book.acct[REALISED] -= book.lot_cost[i, k]
        log_event(journal, EV_DELISTED, i, qty, amount, ns)
    book.qty[i] = 0
    book.mark[i] = 0
    book.lot_head[i] = 0
    book.lot_count[i] = 0
    for s in range(book.alloc.shape[0]):
        book.alloc[s, i] = 0


@kernel
def apply_splits(book, bar, instruments, journal, scratch, ns):
    """Settle 2: bring quantities, lots, allocations, marks and working orders into the units of this bar."""
    for i in range(book.qty.shape[0]):
        num, den = bar.split_num[i], bar.split_den[i]
        if num == 0:
            close_delisted(book, i, bar.dividend[i], journal, ns)
        if num == 0 or num == den or book.mark[i] == 0:
            continue
        old_qty, old_mark = book.qty[i], book.mark[i]
        exact = mul_div_trunc(old_qty, num, den)
        new_qty = trunc_to(exact, instruments.step[i])
        book.mark[i] = mul_div_round(old_mark, den, num)
        if old_qty == 0:
            split_allocations(book.alloc, i, 0, num, den)  # strategies may hold against each other
            continue
        log_event(journal, EV_SPLIT, i, old_qty, new_qty, ns)
        if exact != new_qty or (old_qty * num) % den != 0:
            cash = mul_div_round(old_qty, old_mark, 1_000_000) - mul_div_round(new_qty, book.mark[i], 1_000_000)
            book.acct[CASH] += cash
            book.acct[REALISED] += cash
            log_event(journal, EV_CASH_IN_LIEU, i, 0, cash, ns)
        book.qty[i] = new_qty
        book.acct[REALISED] -= split_lots(book, i, new_qty, num, den)
        split_allocations(book.alloc, i, new_qty, num, den)
    keep, gone = scratch.keep, False
    for k in range(book.acct[N_ORDERS]):
        keep[k] = True
        i = book.order[k, O_INSTR]
        split_order(
            book.order[k], book.want[k], bar.split_num[i], bar.split_den[i], instruments.tick[i], instruments.step[i]
        )
        if book.order[k, O_REM] == 0:
            keep[k], gone = False, True
            log_end(journal, book.order[k], CANCELED, ns)
    scratch.pending[P_SPLIT] = 0
    if gone:
        remove_orders(book, keep)


@kernel
def pay_receivables(book, i, day, journal, scratch, ns):
    """Move what instrument i owes by now to cash."""
    scratch.due[i] = NEVER
    for r in range(RECEIVABLE_SLOTS):
        if 0 < book.recv_day[i, r] <= day:
            amount = book.recv_amount[i, r]
            book.acct[CASH] += amount
            log_event(journal, EV_RECEIVABLE_PAID, i, 0, amount, ns)
            scratch.pending[P_COUNT] -= 1
            scratch.pending[P_OWED] -= amount
            book.recv_day[i, r] = 0
            book.recv_amount[i, r] = 0
        elif book.recv_day[i, r] > 0:
            scratch.due[i] = min(scratch.due[i], book.recv_day[i, r])


@kernel
def apply_dividends(book, bar, day, journal, scratch, ns):
    """Settle 3: dividends to the holder before the open, and receivables that are due. False: no free slot."""
    for i in range(book.qty.shape[0]):
        if bar.dividend[i] > 0 and book.qty[i] != 0:
            amount = mul_div_round(book.qty[i], bar.dividend[i], 100_000_000)
            book.acct[DIVIDENDS] += amount
            if amount != 0 and bar.pay_day[i] > day:
                slot = -1
                for r in range(RECEIVABLE_SLOTS - 1, -1, -1):
                    if book.recv_day[i, r] == 0:
                        slot = r
                for r in range(RECEIVABLE_SLOTS):
                    if book.recv_day[i, r] == bar.pay_day[i]:
                        slot = r
                if slot < 0:
                    return False
                scratch.pending[P_COUNT] += book.recv_day[i, slot] == 0
                scratch.pending[P_OWED] += amount
                scratch.due[i] = min(scratch.due[i], bar.pay_day[i])
                book.recv_day[i, slot] = bar.pay_day[i]
                book.recv_amount[i, slot] += amount
                log_event(journal, EV_DIVIDEND, i, 0, amount, ns)
            else:
                book.acct[CASH] += amount
                kind = EV_DIVIDEND_ASSUMED_PAID if bar.pay_day[i] == 0 else EV_DIVIDEND
                log_event(journal, kind, i, 0, amount, ns)
        if scratch.due[i] <= day:
            pay_receivables(book, i, day, journal, scratch, ns)
    return True
