"""What the book should be at the next bar. Rules: docs/STEP.md, decide."""

from __future__ import annotations

from tradecore._kernels import inlined, kernel, mul_div_round, mul_div_trunc, trunc_to
from tradecore.model import EQUITY, EV_LEFT_UNIVERSE, H_NS
from tradecore.portfolio._kernels import log_event, split_allocations
from tradecore.risk._kernels import (
    cap_gross,
    cap_names,
    cap_turnover,
    count_kept,
    kept_weights,
    size_quantities,
    size_weights,
    sum_amounts,
)
from tradecore.risk.limits._kernels import limit_book, limit_names


@inlined
def in_next_units(book, left, split_num, split_den, step, shorts, quiet, flat, decision):
    """Write ref, qty and alloc of the decision in next-bar units, and who is to be flat [n]: who has left, and who is
    short where nobody is to be, or delisted by then. quiet 1: no name splits."""
    n = book.qty.shape[0]
    ref, qty, alloc = decision.ref, decision.qty, decision.alloc
    for s in range(alloc.shape[0]):
        for i in range(n):
            alloc[s, i] = book.alloc[s, i]
    for i in range(n):
        held, out = book.qty[i], left[i]
        qty[i] = held
        flat[i] = out or (held < 0 and not shorts)
    for i in range(n):
        ref[i] = book.mark[i]
    for i in range(n if quiet == 0 else 0):
        if split_num[i] == 0:  # delisted by then: nothing is left to decide on
            qty[i] = 0
            flat[i] = True
            for s in range(alloc.shape[0]):
                alloc[s, i] = 0
        elif split_num[i] != split_den[i]:
            qty[i] = trunc_to(mul_div_trunc(qty[i], split_num[i], split_den[i]), step[i])
            ref[i] = mul_div_round(ref[i], split_den[i], split_num[i])
            split_allocations(alloc, i, qty[i], split_num[i], split_den[i])


@kernel
def decide_nothing(decision):
    """Write a decision without an opinion: everything stays as it is."""
    decision.opinion[:] = False
    for i in range(decision.qty.shape[0]):
        decision.target[i] = decision.qty[i]
        for s in range(decision.alloc.shape[0]):
            decision.weight[s, i] = 0
            decision.contribution[s, i] = decision.alloc[s, i]


@kernel
def log_leavers(bar, qty, journal, ns):
    """Log whose holding is sold because it has left the universe."""
    for i in range(qty.shape[0]):
        if bar.left[i] and bar.traded[i] and qty[i] != 0:
            log_event(journal, EV_LEFT_UNIVERSE, i, qty[i], 0, ns)


@inlined
def decide_bar(
    book, score, capital, volatility, bar, split_num, split_den, instruments, params, limits, journal, scratch, decision
):
    """Fill in the decision for the next bar: sizes, caps and quantities in next-bar units."""
    weight, contribution, target, ref, opinion, qty, alloc = decision
    active, flat, kept, total, step = scratch.active, scratch.flat, scratch.kept_ppm, scratch.total, instruments.step
    ns, equity, shorts = bar.head[H_NS], book.acct[EQUITY], params.shorts != 0
    in_next_units(book, bar.left, split_num, split_den, step, shorts, scratch.quiet[0], flat, decision)
    if equity <= 0:
        decide_nothing(decision)
        return
    size_weights(score, capital, volatility, bar.traded, flat, params, weight, active)
    if journal is not None:
        log_leavers(bar, qty, journal, ns)
    if count_kept(active, alloc, shorts, opinion, kept) > 0:
        kept_weights(kept, ref, equity)
    sum_amounts(weight, total)
    cap_names(weight, total, kept, params.max_position_ppm, journal, ns)
    if params.limits:
        limit_names(weight, kept, equity, limits, params, journal, ns)
        sum_amounts(weight, total)
    cap_gross(weight, total, kept, params.max_exposure_ppm, journal, ns)
    if params.limits:
        limit_book(weight, kept, active, alloc, ref, equity, limits, params, journal, ns)
    size_quantities(weight, active, alloc, ref, step, equity, contribution, target)
    cap_turnover(contribution, target, alloc, qty, ref, step, equity, params, journal, ns)
