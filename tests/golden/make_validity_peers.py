"""What arch and mlfinpy say of the sample: `make validity-peers` runs this in their environment.

.local/validity-peers/bin/python tests/golden/make_validity_peers.py            write validity_peers.json
.local/validity-peers/bin/python tests/golden/make_validity_peers.py --check    compare it with what they say now
"""

from __future__ import annotations

import csv
import json
import sys
import warnings
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from arch.bootstrap import CircularBlockBootstrap, StationaryBootstrap, optimal_block_length
from mlfinpy.cross_validation import ml_get_train_times

HOME = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("validity_peers.json")
SYMBOLS = ("AAPL", "MSFT", "IBM", "FB")
ROWS, GROUPS, CHOSEN, HORIZON = 61, 6, 2, 3  # of the splits: 61 rows do not divide evenly
DRAWS, BLOCK = 20_000, 12


def returns_of(symbol: str) -> np.ndarray:
    """Return the vendor's adjusted closes as simple returns."""
    with (HOME / "include" / "sample_data" / f"{symbol}.csv").open(encoding="utf-8") as file:
        close = np.array([float(row["vendor_adj_close"]) for row in csv.DictReader(file)])
    return close[1:] / close[:-1] - 1.0


def blocks(series: np.ndarray) -> list[float]:
    found = optimal_block_length(series)
    return [float(found["stationary"].iloc[0]), float(found["circular"].iloc[0])]


def spans() -> pd.Series:
    """Return the last bar that each observation's label needs, by its first."""
    at = np.arange(ROWS)
    return pd.Series(np.minimum(at + HORIZON, ROWS - 1), index=at)


def trained(chosen: tuple[int, ...]) -> list[int]:
    """Return the training rows beside some test blocks, purged by snippet 7.1.

    mlfinpy's own combinatorial class fails on plain rows ("zero-dimensional arrays cannot be concatenated").
    """
    labels, blocks = spans(), np.array_split(np.arange(ROWS), GROUPS)
    test = pd.Series(data=[int(labels[blocks[g]].max()) for g in chosen], index=[int(blocks[g][0]) for g in chosen])
    return [int(i) for i in ml_get_train_times(labels, test).index]


def errors(returns: np.ndarray) -> list[float]:
    """Return the standard error of the mean by the stationary and the circular bootstrap."""
    kinds = (StationaryBootstrap, CircularBlockBootstrap)
    return [float(kind(BLOCK, returns, seed=1).var(np.mean, reps=DRAWS) ** 0.5) for kind in kinds]


def figures() -> dict[str, Any]:
    series = {s: returns_of(s) for s in SYMBOLS}
    return {
        "versions": {name: metadata.version(name) for name in ("arch", "mlfinpy")},
        "block_length": {s: {"returns": blocks(r), "absolute": blocks(np.abs(r))} for s, r in series.items()},
        "mean_error": {s: errors(series[s]) for s in ("FB",)},
        "splits": {"rows": ROWS, "groups": GROUPS, "chosen": CHOSEN, "horizon": HORIZON},
        "bootstrap": {"draws": DRAWS, "block": BLOCK},
        "purged": [trained((g,)) for g in range(GROUPS)],
        "combinatorial": [trained(chosen) for chosen in combinations(range(GROUPS), CHOSEN)],
    }


def main() -> int:
    warnings.simplefilter("ignore")
    found = figures()
    if "--check" not in sys.argv:
        GOLDEN.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
        return 0
    same = json.loads(json.dumps(found)) == json.loads(GOLDEN.read_text(encoding="utf-8"))
    print("the golden figures are what arch and mlfinpy say" if same else "the golden figures are NOT what they say")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
