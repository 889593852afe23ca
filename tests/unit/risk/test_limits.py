"""Limits on targets: the kernels against a naive twin to the integer, and the laws that hold whatever comes in."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_risk as reference
from tradecore.backtest.step import step_params
from tradecore.config_models import Execution
from tradecore.config_risk import Risk
from tradecore.model import EVENT_NAMES, Journal, Limits, StepParams, no_limits
from tradecore.risk._kernels import cap_gross
from tradecore.risk.limits import _kernels as kernels
from tradecore.risk.outlook import limits_row

EXAMPLES = settings(max_examples=150, deadline=None)
EQUITY = 1_000_000_0000
GROSS = 900_000
PLAIN = step_params(Risk(), Execution())


def grouped(member: np.ndarray) -> dict[str, np.ndarray]:
    """Return groups [G, n] as the kernels take them."""
    return {"group_start": np.append(0, member.sum(axis=1).cumsum()), "group_name": np.nonzero(member)[1]}


def groups(limits: Limits) -> list[list[int]]:
    """Return the names of each group."""
    return (
        [part.tolist() for part in np.split(limits.group_name, limits.group_start[1:-1])]
        if limits.group_ppm.size
        else []
    )


class Case:
    """A decision's weights at the point where limits are applied, drawn from a seed; some is kept without an
    opinion."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rng, self.n, self.s = rng, int(rng.integers(1, 8)), int(rng.integers(1, 4))
        n, s = self.n, self.s
        self.active = rng.random((s, n)) < rng.choice([1.0, 0.7])
        short = rng.choice([0.0, 0.4])
        sign = np.where(rng.random((s, n)) < short, -1, 1)
        sizes = rng.integers(0, 400_000, (s, n)) * (rng.random((s, n)) < 0.8)
        self.weight = np.where(self.active, sign * sizes, 0).astype(np.int64)
        self.alloc = np.where(self.active, 0, sign * rng.integers(0, 2_000, (s, n)) * 1_000_000).astype(np.int64)
        self.ref = rng.integers(100_000, 2_000_000, n)
        self.kept = (np.abs(self.alloc).sum(axis=0) * self.ref / EQUITY).astype(np.int64)
        self.limits = no_limits(n)._replace(
            **grouped(rng.random((int(rng.integers(0, 4)), n)) < 0.5),
            loss=rng.choice([0.2, 0.5, -0.1, 0.0], (int(rng.integers(0, 3)), n)),
            room=np.empty((3, 30)),
            scenario=rng.normal(size=(30, n)) * 0.03,
            market=rng.normal(size=30) * 0.02,
            beta=rng.normal(1.0, 0.7, (1, n)),
            cluster=np.minimum(rng.integers(0, n, (1, n)), np.arange(n)),
            traded_e4=rng.choice([0, 10**9, 10**10, 10**12], (1, n)),
            known=rng.random((1, n)) < 0.8,
        )
        first = self.limits.cluster[0]
        first[:] = first[first]  # each cluster is named by a member of it
        for _ in range(n):
            first[:] = first[first]
        self.limits = self.limits._replace(group_ppm=rng.integers(0, 900_000, self.limits.group_start.size - 1))
        ppm = lambda: int(rng.choice([-1, 0, 50_000, 300_000, 700_000]))  # noqa: E731 - drawn often
        self.params = PLAIN._replace(
            limits=1,
            max_exposure_ppm=GROSS,
            max_adv_ppm=int(rng.choice([-1, 10_000, 500_000])),
            max_cluster_ppm=ppm(),
            max_names=int(rng.integers(0, 4)),
            min_names=int(rng.integers(0, 5)),
            max_leverage_ppm=ppm(),
            max_net_ppm=ppm(),
            max_beta_ppm=ppm(),
            max_stress_ppm=max(0, ppm()),
            max_tail_ppm=ppm() // 10,
            tail_worst=int(rng.integers(1, 4)),
            tail_mean=int(rng.integers(0, 2)),
        )


def applied(
    case: Case, weight: np.ndarray, params: StepParams | None = None
) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Return the weights after all limits, in the step's order, and what was logged."""
    at, out = params or case.params, weight.copy()
    journal = Journal(*(np.zeros((400, 5), np.int64) for _ in range(4)), counts=np.zeros(4, np.int64))
    row = limits_row(case.limits, 0)
    kernels.limit_names(out, case.kept, EQUITY, row, at, journal, 0)
    cap_gross(out, np.abs(out).sum(axis=0), case.kept, at.max_exposure_ppm, journal, 0)
    kernels.limit_book(out, case.kept, case.active, case.alloc, case.ref, EQUITY, row, at, journal, 0)
    return out, [(EVENT_NAMES[e[0]], int(e[1])) for e in journal.events[: journal.counts[0]]]


def twin(case: Case) -> reference.Book:
    """Return the same by the naive twin."""
    at, limits = case.params, case.limits
    net = (np.where(case.active, 0, case.alloc) * (case.ref.astype(float) / EQUITY)).sum(axis=0)
    book = reference.Book(case.weight.tolist(), case.kept.tolist(), net.tolist())
    if at.max_adv_ppm >= 0:
        book.liquidity(limits.traded_e4[0].tolist(), EQUITY, at.max_adv_ppm)
    book.groups(groups(limits), limits.group_ppm.tolist())
    if at.max_cluster_ppm >= 0:
        book.clusters(limits.cluster[0].tolist(), at.max_cluster_ppm)
    if at.max_names:
        book.most(at.max_names)
    if at.min_names > 1:
        book.least(at.min_names, GROSS)
    book.gross(GROSS)
    if at.max_leverage_ppm >= 0:
        book.leverage(at.max_leverage_ppm)
    if at.max_net_ppm >= 0:
        book.loading("net_cap", -1, [1.0] * case.n, at.max_net_ppm)
    if at.max_beta_ppm >= 0:
        book.loading("beta_cap", -1, limits.beta[0].tolist(), at.max_beta_ppm)
    for k, loss in enumerate(limits.loss.tolist()):
        book.loading("stress_cap", -2 - k, loss, at.max_stress_ppm, one_sided=True)
    if at.max_tail_ppm >= 0:
        moves = np.where(limits.known[0], limits.scenario, limits.market[:, None])
        book.tail(moves.tolist(), at.tail_worst, bool(at.tail_mean), at.max_tail_ppm)
    return book


def test_limits_equal_their_naive_twin_and_each_was_met():
    seen: Counter[str] = Counter()
    for seed in range(300):
        case = Case(seed)
        weight, events = applied(case, case.weight)
        book = twin(case)
        assert events == book.events, f"seed {seed}"
        np.testing.assert_allclose(weight, book.weight, atol=2, rtol=0, err_msg=f"seed {seed}")  # float sums of ppm
        seen.update(name for name, _ in events)
    rules = ("liquidity", "group", "cluster", "gross", "leverage", "net", "beta", "stress", "tail")
    missing = [r for r in (*(f"{r}_cap" for r in rules), "max_names", "min_names") if seen[r] < 5]
    assert not missing, f"not exercised: {missing} of {dict(seen)}"


def exposures(case: Case, weight: np.ndarray) -> dict[str, Any]:
    """Return each limited figure as (value, bound): what is kept beyond a cap is its own bound; one ppm a weight."""
    at, limits, slack = case.params, case.limits, case.s * case.n
    size, kept = np.abs(weight).sum(axis=0), case.kept
    kept_net = (np.where(case.active, 0, case.alloc) * (case.ref.astype(float) / EQUITY)).sum(axis=0)
    net = weight.sum(axis=0)
    out: dict[str, Any] = {"gross": ((size + kept).sum(), max(GROSS, kept.sum()))}
    for g, row in enumerate(groups(limits)):
        out[f"group {g}"] = ((size + kept)[row].sum(), max(limits.group_ppm[g], kept[row].sum()))
    if at.max_adv_ppm >= 0:
        for i in np.flatnonzero(size):
            cap = at.max_adv_ppm * float(limits.traded_e4[0, i]) / EQUITY
            out[f"liquidity {i}"] = (size[i] + kept[i], max(cap, kept[i]))
    if at.max_cluster_ppm >= 0:
        for first in range(case.n):
            row = limits.cluster[0] == first
            if row.sum() > 1:
                out[f"cluster {first}"] = ((size + kept)[row].sum(), max(at.max_cluster_ppm, kept[row].sum()))
    if at.max_names:
        out["names"] = ((size + kept > 0).sum(), max(at.max_names, (kept > 0).sum()))
    if at.max_leverage_ppm >= 0:
        alone = np.abs(kept_net).sum()
        out["leverage"] = (np.abs(net + kept_net).sum(), max(at.max_leverage_ppm, alone) + slack)
    for name, cap, load in (("net", at.max_net_ppm, np.ones(case.n)), ("beta", at.max_beta_ppm, limits.beta[0])):
        if cap >= 0:
            bound = max(cap, abs(kept_net @ load)) + case.s * np.abs(load).sum()
            out[name] = (abs((net + kept_net) @ load), bound)
    for k, loss in enumerate(limits.loss):
        out[f"stress {k}"] = (
            (net + kept_net) @ loss,
            max(at.max_stress_ppm, kept_net @ loss) + case.s * np.abs(loss).sum(),
        )
    if at.max_tail_ppm >= 0:
        moves = np.where(limits.known[0], limits.scenario, limits.market[:, None])

        def tail(w: np.ndarray) -> float:
            worst = np.sort(-(moves @ w))[::-1][: at.tail_worst]
            return float(worst.mean() if at.tail_mean else worst[-1])

        out["tail"] = (tail(net + kept_net), max(at.max_tail_ppm, tail(kept_net)) + slack)
    return out


@EXAMPLES
@given(seed=st.integers(0, 2**40))
def test_no_cap_is_exceeded_but_by_what_is_kept_alone(seed: int):
    case = Case(seed)
    weight, _ = applied(case, case.weight)
    for name, (value, bound) in exposures(case, weight).items():
        if name == "tail" and case.params.tail_mean == 0 and np.any(case.alloc):
            continue  # value at risk is not convex: between what is kept and the whole it may be larger than both
        assert value <= bound + 1e-6, f"{name}: {value} is above {bound}"


@EXAMPLES
@given(seed=st.integers(0, 2**40))
def test_limits_are_idempotent_and_only_make_weights_smaller(seed: int):
    case = Case(seed)
    once, _ = applied(case, case.weight)
    twice, events = applied(case, once)
    assert events == []
    np.testing.assert_array_equal(once, twice)
    assert (np.abs(once) <= np.abs(case.weight)).all()
    assert (once * case.weight >= 0).all()


def test_order_matters_and_is_the_stated_one():
    """Groups before the gross cap: the other way round the group's names would be cut twice."""
    weight = np.array([[600_000, 300_000, 300_000]], np.int64)
    none = np.zeros(3, np.int64)
    limits = no_limits(3)._replace(**grouped(np.array([[True, False, False]])), group_ppm=np.array([300_000]))
    row, params = limits_row(limits, 0), PLAIN._replace(limits=1)
    journal = Journal(*(np.zeros((400, 5), np.int64) for _ in range(4)), counts=np.zeros(4, np.int64))
    stated, other = weight.copy(), weight.copy()
    kernels.limit_names(stated, none, EQUITY, row, params, journal, 0)
    cap_gross(stated, np.abs(stated).sum(axis=0), none, 900_000, journal, 0)
    cap_gross(other, np.abs(other).sum(axis=0), none, 900_000, journal, 0)
    kernels.limit_names(other, none, EQUITY, row, params, journal, 0)
    assert stated.tolist() == [[300_000, 300_000, 300_000]]
    assert other.tolist() == [[300_000, 225_000, 225_000]]


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_select_is_the_kth_largest(count: int):
    rng = np.random.default_rng(count)
    for _ in range(20):
        values = rng.integers(0, 5, count).astype(float)
        k = int(rng.integers(count))
        room = values.copy()
        assert kernels.select(room, count, k) == np.sort(values)[::-1][k]
        assert sorted(room[:k], reverse=True) == np.sort(values)[::-1][:k].tolist(), "the larger ones are before it"
