"""The stand-in's clock: standing still, or running at some speed from a time of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any


@dataclass(slots=True, kw_only=True)
class Clock:
    """`base_at` at `base_wall_s` (Unix seconds), running `speed` times as fast as the wall clock; 0 stands still."""

    base_at: datetime
    base_wall_s: float
    speed: float

    @classmethod
    def real(cls) -> Clock:
        """Return the wall clock."""
        wall_s = time.time()
        return cls(base_at=datetime.fromtimestamp(wall_s, UTC), base_wall_s=wall_s, speed=1.0)

    def __call__(self) -> datetime:
        return self.base_at + timedelta(seconds=(time.time() - self.base_wall_s) * self.speed)

    def set(self, at: datetime, speed: float) -> None:
        """Go on from `at`."""
        self.base_at, self.base_wall_s, self.speed = at.astimezone(UTC), time.time(), speed

    def document(self) -> dict[str, Any]:
        return {"now": self().isoformat(), "speed": self.speed}

    def command(self) -> dict[str, Any]:
        """Return the setting as a journal line."""
        base = {"base_at": self.base_at.isoformat(), "base_wall_s": self.base_wall_s}
        return {"op": "clock", **base, "speed": self.speed, "at": self.base_at.isoformat()}

    def restore(self, command: dict[str, Any]) -> None:
        """Take a setting from the journal: a running clock kept running while the program was down."""
        self.base_at = datetime.fromisoformat(command["base_at"])
        self.base_wall_s, self.speed = command["base_wall_s"], command["speed"]
