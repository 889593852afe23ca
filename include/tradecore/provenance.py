"""What a decision is named by: hashes of the data, the configuration and the code that made it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tradecore.bars import Panel
from tradecore.model import Market


@cache
def code_hash(home: Path) -> str:
    """Return the sha256 of the imported package, the owner's strategies and the lock file, by content."""
    package = Path(__file__).resolve().parent
    files = sorted([*package.rglob("*.py"), *package.rglob("*.sql"), *(home / "include" / "strategies").glob("*.py")])
    digest = hashlib.sha256()
    for path in [*files, home / "requirements.txt"]:
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def git_revision(home: Path) -> str:
    """Return the revision of the checkout, or an empty text where there is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(home), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def data_hash(panel: Panel, upcoming: Market | None = None) -> str:
    """Return the sha256 of a window of bars as canonical integers (factors to 1e-12), of the alternative series in it
    (to the bit) and of the next bar's actions."""
    digest = hashlib.sha256(json.dumps([i.instrument_id for i in panel.instruments]).encode())
    for array in (panel.bar_end_ns, panel.open, panel.high, panel.low, panel.close, panel.volume, panel.traded):
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    digest.update(np.rint(np.nan_to_num(panel.adj_factor) * 1e12).astype("<i8").tobytes())
    for name, values in sorted(panel.series.items()):
        digest.update(name.encode() + b"\0" + np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
    for array in (upcoming.split_num, upcoming.split_den, upcoming.dividend) if upcoming else ():
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()


def hash_of_arrays(arrays: Sequence[npt.NDArray[np.generic]]) -> str:
    """Return the sha256 of integer or boolean arrays, with their shapes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()


def hash_of(*parts: object) -> str:
    """Return the sha256 of the canonical JSON of parts that are texts, integers, booleans, None, lists or dicts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def score_hash(scores: dict[int, float]) -> str:
    """Return the hash of scores by instrument, as integers of 1e-9; NaN is None."""
    return hash_of({str(k): None if np.isnan(v) else round(v * 1e9) for k, v in sorted(scores.items())})
