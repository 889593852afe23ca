"""Naive twins of the risk kernels, written from docs/risk.md: plain lists, one name after the other.

Nothing here imports tradecore. Where a kernel finds an optimum step by step, the twin checks the conditions of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]
NAN = math.nan
PPM = 1_000_000


# ---------------------------------------------------------------------------------------------- covariance


def mean(column: Sequence[float]) -> float:
    return math.fsum(column) / len(column)


def sample_covariance(returns: Matrix) -> list[list[float]]:
    """[n][n] of returns [T][n], divided by T - 1."""
    rows = len(returns)
    columns = [[row[i] for row in returns] for i in range(len(returns[0]))]
    apart = [[x - mean(c) for x in c] for c in columns]
    return [[math.fsum(x * y for x, y in zip(a, b, strict=True)) / (rows - 1) for b in apart] for a in apart]


def ewma_covariance(returns: Matrix, decay: float) -> list[list[float]]:
    """Around 0, the newest row with weight 1, each older one `decay` times it, over the sum of weights."""
    rows, n = len(returns), len(returns[0])
    weight = [decay ** (rows - 1 - t) for t in range(rows)]
    total = math.fsum(weight)
    return [
        [math.fsum(weight[t] * returns[t][i] * returns[t][j] for t in range(rows)) / total for j in range(n)]
        for i in range(n)
    ]


def ledoit_wolf(returns: Matrix) -> tuple[list[list[float]], float]:
    """(covariance, shrinkage): the distance of each row's own product to their mean says what is noise."""
    rows, n = len(returns), len(returns[0])
    centre = [mean([row[i] for row in returns]) for i in range(n)]
    x = [[row[i] - centre[i] for i in range(n)] for row in returns]
    s = [[math.fsum(r[i] * r[j] for r in x) / rows for j in range(n)] for i in range(n)]
    m = math.fsum(s[i][i] for i in range(n)) / n
    d2 = math.fsum((s[i][j] - (m if i == j else 0.0)) ** 2 for i in range(n) for j in range(n)) / n
    b2 = math.fsum((r[i] * r[j] - s[i][j]) ** 2 for r in x for i in range(n) for j in range(n)) / n / rows**2
    part = min(b2, d2) / d2 if d2 else 0.0
    return [[(1.0 - part) * s[i][j] + (part * m if i == j else 0.0) for j in range(n)] for i in range(n)], part


def betas(returns: Matrix, index: Sequence[float]) -> list[float]:
    """Slope of each column on the index."""
    centre = mean(index)
    variance = math.fsum((x - centre) ** 2 for x in index)
    out = []
    for i in range(len(returns[0])):
        own = mean([row[i] for row in returns])
        both = math.fsum((x - centre) * (row[i] - own) for x, row in zip(index, returns, strict=True))
        out.append(both / variance if variance else NAN)
    return out


def clusters(covariance: Matrix, least: float) -> list[int]:
    """Lowest member of each name's cluster: walk along pairs that move together."""
    n = len(covariance)

    def together(i: int, j: int) -> bool:
        scale = covariance[i][i] * covariance[j][j]
        return scale > 0 and covariance[i][j] >= least * math.sqrt(scale)

    label = [-1] * n
    for first in range(n):
        if label[first] >= 0:
            continue
        walk = [first]
        while walk:
            i = walk.pop()
            if label[i] < 0:
                label[i] = first
                walk += [j for j in range(n) if label[j] < 0 and together(i, j)]
    return label


# -------------------------------------------------------------------------------------------------- sizing


def risk_parts(covariance: Matrix, w: Sequence[float]) -> list[float]:
    """Each name's part of the portfolio's variance; they sum to 1."""
    n = len(w)
    own = [w[i] * math.fsum(covariance[i][j] * w[j] for j in range(n)) for i in range(n)]
    return [x / math.fsum(own) for x in own]


def filled(w: Sequence[float], upper: Sequence[float], budget: float) -> list[float]:
    """w times one factor, cut at upper, with the sum of budget if that is possible: the factor by bisection."""
    if math.fsum(u for x, u in zip(w, upper, strict=True) if x > 0) <= budget:
        return [u if x > 0 else 0.0 for x, u in zip(w, upper, strict=True)]
    low, high = 0.0, 1.0
    while math.fsum(min(u, high * x) for x, u in zip(w, upper, strict=True)) < budget:
        high *= 2.0
    for _ in range(200):
        middle = (low + high) / 2.0
        if math.fsum(min(u, middle * x) for x, u in zip(w, upper, strict=True)) < budget:
            low = middle
        else:
            high = middle
    return [min(u, high * x) for x, u in zip(w, upper, strict=True)]


def slopes(quadratic: Matrix, linear: Sequence[float], w: Sequence[float]) -> list[float]:
    """Slope of w'Qw/2 - m'w at w."""
    return [math.fsum(q * x for q, x in zip(row, w, strict=True)) - m for row, m in zip(quadratic, linear, strict=True)]


def optimality_gap(quadratic: Matrix, linear: Sequence[float], upper: Sequence[float], w: Sequence[float]) -> float:
    """How much the objective would fall per unit of weight moved between the best pair of names: 0 at the optimum."""
    g = slopes(quadratic, linear, w)
    takers = [g[i] for i in range(len(w)) if w[i] < upper[i]]
    givers = [g[i] for i in range(len(w)) if w[i] > 0.0]
    return max(0.0, max(givers) - min(takers)) if takers and givers else 0.0


# -------------------------------------------------------------------------------------------------- limits


def shrink(w: int, room: int, total: int) -> int:
    """w * room / total, cut toward zero."""
    size = abs(w) * room // total
    return -size if w < 0 else size


class Book:
    """Weights [S][n] in ppm and what is kept, under the limits of docs/risk.md, in their order. events: (rule,
    where)."""

    def __init__(self, weight: list[list[int]], kept: list[int], kept_net: list[float]) -> None:
        self.weight, self.kept, self.kept_net = [list(row) for row in weight], kept, kept_net
        self.events: list[tuple[str, int]] = []
        self.n = len(kept)

    def total(self, i: int) -> int:
        return sum(abs(row[i]) for row in self.weight)

    def net(self, i: int) -> int:
        return sum(row[i] for row in self.weight)

    def bring(self, rule: str, where: int, names: Sequence[int], cap: int) -> None:
        """Scale names together so that with what is kept of them they are within a cap."""
        total, room = sum(self.total(i) for i in names), max(0, cap - sum(self.kept[i] for i in names))
        if total > room:
            self.events.append((rule, where))
            for row in self.weight:
                for i in names:
                    row[i] = shrink(row[i], room, total)

    def liquidity(self, traded_e4: Sequence[int], equity_e4: int, most_ppm: int) -> None:
        for i in range(self.n):
            if self.total(i):
                self.bring("liquidity_cap", i, [i], int(most_ppm * traded_e4[i] / equity_e4))

    def groups(self, members: Sequence[Sequence[int]], caps: Sequence[int]) -> None:
        for g, names in enumerate(members):
            self.bring("group_cap", -2 - g, list(names), caps[g])

    def clusters(self, cluster: Sequence[int], cap: int) -> None:
        for first in range(self.n):
            names = [i for i in range(self.n) if cluster[i] == first]
            if len(names) > 1:
                self.bring("cluster_cap", first, names, cap)

    def most(self, names: int) -> None:
        held = sum(k > 0 for k in self.kept)
        wanted = sorted((self.total(i), -i) for i in range(self.n) if self.total(i) > 0 and not self.kept[i] > 0)
        for _, minus in wanted[: max(0, len(wanted) - max(0, names - held))]:
            self.events.append(("max_names", -minus))
            for row in self.weight:
                row[-minus] = 0

    def least(self, names: int, gross_cap: int) -> None:
        have = sum(self.total(i) + self.kept[i] > 0 for i in range(self.n))
        if have < names:
            self.bring("min_names", -1, range(self.n), gross_cap * have // names)

    def gross(self, cap: int) -> None:
        self.bring("gross_cap", -1, range(self.n), cap)

    def scale(self, factor_ppm: int) -> None:
        self.weight = [[shrink(w, factor_ppm, PPM) for w in row] for row in self.weight]

    def leverage(self, cap: int) -> None:
        total = float(sum(abs(self.net(i)) for i in range(self.n)))
        room = max(0.0, cap - math.fsum(abs(k) for k in self.kept_net))
        if total > room + self.n * len(self.weight):
            self.events.append(("leverage_cap", -1))
            self.scale(int(room * PPM / total))

    def loading(self, rule: str, where: int, load: Sequence[float], cap: int, *, one_sided: bool = False) -> None:
        total = kept = 0.0
        for i in range(self.n):
            total += self.net(i) * load[i]
            kept += self.kept_net[i] * load[i]
        if total < 0 and not one_sided:
            total, kept = -total, -kept
        bound = max(cap, kept if one_sided else abs(kept))
        slack = sum(abs(x) for x in load) * len(self.weight)
        if total > 0 and total + kept > bound + slack:
            self.events.append((rule, where))
            self.scale(int((bound - kept) * PPM / total))

    def tail(self, scenarios: Matrix, worst: int, average: bool, cap: int) -> None:
        moving = [0.0] * len(scenarios)
        fixed = [0.0] * len(scenarios)
        for i in range(self.n):
            for t, row in enumerate(scenarios):
                moving[t] += self.net(i) * row[i]
                fixed[t] += self.kept_net[i] * row[i]

        def loss(factor: float) -> float:
            losses = sorted((-(f + factor * m) for m, f in zip(moving, fixed, strict=True)), reverse=True)
            return sum(losses[:worst]) / worst if average else losses[worst - 1]

        bound = max(float(cap), loss(0.0))
        if loss(1.0) > bound + self.n * len(self.weight):
            low, high = 0, PPM
            for _ in range(20):
                middle = (low + high) // 2
                low, high = (middle, high) if loss(middle / PPM) <= bound else (low, middle)
            self.events.append(("tail_cap", -1))
            self.scale(low)


# ------------------------------------------------------------------------------------------------ measures


def historical(returns: Sequence[float], confidence: float) -> tuple[float, float]:
    """(value at risk, expected shortfall): the worst (1 - confidence) T rows, the last one in part."""
    worst_first = sorted(-r for r in returns)[::-1]
    count = (1.0 - confidence) * len(returns)
    k = max(1, math.ceil(round(count, 9)))
    value = worst_first[k - 1]
    if count >= k:
        return value, math.fsum(worst_first[:k]) / k
    return value, (math.fsum(worst_first[: k - 1]) + (count - (k - 1)) * value) / count if count > k - 1 else value


def kupiec(rows: int, exceeded: int, p: float) -> float:
    """The published ratio, by powers: small samples only."""
    rate = exceeded / rows
    null = (1 - p) ** (rows - exceeded) * p**exceeded
    return -2.0 * math.log(null / ((1 - rate) ** (rows - exceeded) * rate**exceeded))
