"""The fault plan: which request meets which fault, by an explicit list or by seed.

| kind | what happens |
|---|---|
| timeout_accepted | processed, no answer (`seconds`: the connection hangs so long; 0 closes it at once) |
| timeout_refused | not processed, no answer |
| 429, 500, 504 | that answer, not processed |
| 500_accepted, 504_accepted | that answer, processed |
| 422_duplicate | processed, then answered as a second delivery of the same request: 422 |
| 403_wash | refused as a wash trade, not processed |
| late_fill | a cancel is confirmed, and `seconds` later the order is filled all the same; `shows`: canceled first, |
|           | or pending_cancel |
| dropped_fill | the order's fills never reach the stream, and the activities after `seconds` (null: never) |
| duplicated_fill | the order's fills come twice, in the stream and in the activities, with one id |
| slow | processed, answered after `seconds` |
| cut | processed, the connection breaks in mid-body |
| malformed | processed, the body is no JSON |

`any` kinds meet any request; late_fill meets DELETE of an order; the fills' kinds and 422/403 meet POST of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from alpaca_standin.state import chance

POST_ONLY = frozenset({"422_duplicate", "403_wash", "dropped_fill", "duplicated_fill"})
DELETE_ONLY = frozenset({"late_fill"})
ANY = (
    "timeout_accepted",
    "timeout_refused",
    "429",
    "500",
    "500_accepted",
    "504",
    "504_accepted",
    "slow",
    "cut",
    "malformed",
)
KINDS = (*ANY, *sorted(POST_ONLY), *sorted(DELETE_ONLY))
NOT_PROCESSED = frozenset({"timeout_refused", "429", "500", "504", "403_wash"})


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault: it meets the next `times` requests that match, after `skip` of them.

    `method`, `path` (a prefix) and `client_order_id` None match everything the kind can meet.
    """

    kind: str
    times: int = 1
    skip: int = 0
    method: str | None = None
    path: str | None = None
    client_order_id: str | None = None
    seconds: float | None = 0.0
    shows: str = "pending_cancel"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"There is no fault {self.kind!r}; there are {', '.join(KINDS)}.")

    def meets(self, method: str, path: str, client_order_id: str | None) -> bool:
        """Tell whether the request is one that this fault is for."""
        if self.kind in POST_ONLY and (method, path) != ("POST", "/v2/orders"):
            return False
        if self.kind in DELETE_ONLY and not (method == "DELETE" and path.startswith("/v2/orders/")):
            return False
        target = self.method or self.path or self.client_order_id
        if self.kind in ANY and target is None and (method, path) != ("POST", "/v2/orders"):
            return False  # without a target, a fault is one of sending an order
        return (
            self.method in (None, method)
            and (self.path is None or path.startswith(self.path))
            and self.client_order_id in (None, client_order_id)
        )


@dataclass(slots=True, kw_only=True)
class FaultPlan:
    """Faults to come and faults that fired.

    Besides the list: with `rate_frac` > 0 a request meets a fault of `kinds` with that probability, decided by
    the seed and the number of requests before it; late and hidden fills then come within `late_s`, answers
    that hang or are slow take `wait_s`.
    """

    faults: list[Fault] = field(default_factory=list)
    seed: int = 0
    rate_frac: float = 0.0
    kinds: tuple[str, ...] = KINDS
    wait_s: float = 0.0
    late_s: float = 120.0
    seen: int = 0
    fired: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[dict[str, Any]]) -> FaultPlan:
        """Return the plan of a list of documents such as {"kind": "500", "times": 2}."""
        return cls(faults=[Fault(**row) for row in rows])

    def choose(self, method: str, path: str, client_order_id: str | None) -> Fault | None:
        """Return the fault that this request meets, and use it up."""
        self.seen += 1
        found = self._listed(method, path, client_order_id) or self._by_seed(method, path, client_order_id)
        if found is not None:
            row = {"kind": found.kind, "method": method, "path": path, "client_order_id": client_order_id}
            self.fired.append({**row, "request": self.seen})
        return found

    def _listed(self, method: str, path: str, client_order_id: str | None) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.meets(method, path, client_order_id):
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def _by_seed(self, method: str, path: str, client_order_id: str | None) -> Fault | None:
        if self.rate_frac <= 0 or chance("fault", self.seed, self.seen) >= self.rate_frac:
            return None
        able = [kind for kind in self.kinds if Fault(kind=kind, method=method).meets(method, path, client_order_id)]
        if not able:
            return None
        kind = able[int(chance("kind", self.seed, self.seen) * len(able))]
        late = kind in ("late_fill", "dropped_fill")
        seconds = float(int(chance("s", self.seed, self.seen) * self.late_s)) if late else self.wait_s
        return Fault(kind=kind, method=method, seconds=seconds)
