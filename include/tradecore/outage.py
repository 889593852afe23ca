"""The memory of an outage (database, api-server), in a small local file: since when, who was told, who has to be."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(slots=True, kw_only=True)
class Outage:
    """One outage, or none (`known` is False). Each change is written at once: a restart repeats nothing."""

    path: Path
    _since: datetime | None = None
    _told: list[str] = field(default_factory=list)
    _failed: dict[str, tuple[int, datetime]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Outage:
        """Read the file; a missing or unreadable one is no outage (at worst an alert is repeated)."""
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                path=path,
                _since=datetime.fromisoformat(raw["since"]),
                _told=[str(name) for name in raw["told"]],
                _failed={
                    str(name): (int(attempts), datetime.fromisoformat(next_try))
                    for name, (attempts, next_try) in raw["failed"].items()
                },
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path=path)

    @property
    def known(self) -> bool:
        """Whether an outage is going on, as far as was noticed."""
        return self._since is not None

    @property
    def since_at(self) -> datetime:
        """When it was noticed. Raises ValueError when there is none."""
        if self._since is None:
            raise ValueError("no outage is going on")
        return self._since

    def begin(self, now: datetime) -> None:
        """Note that the outage is there; the first note counts."""
        if self._since is None:
            self._since = now
            self._save()

    def is_due(self, channel: str, now: datetime) -> bool:
        """Whether the channel has to be told now."""
        if channel in self._told:
            return False
        return channel not in self._failed or self._failed[channel][1] <= now

    def failed_attempts(self, channel: str) -> int:
        """How often telling the channel has failed."""
        return self._failed[channel][0] if channel in self._failed else 0

    def told(self, channel: str) -> None:
        """Note that the channel took the alert."""
        self._told.append(channel)
        self._failed.pop(channel, None)
        self._save()

    def failed(self, channel: str, next_try_at: datetime) -> None:
        """Note a failed attempt and when the next one is."""
        self._failed[channel] = (self.failed_attempts(channel) + 1, next_try_at)
        self._save()

    def forget(self) -> None:
        """Note that the outage is over."""
        if self._since is not None:
            self._since = None
            self.path.unlink(missing_ok=True)

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_text(
            json.dumps(
                {
                    "since": self.since_at.isoformat(),
                    "told": self._told,
                    "failed": {name: [n, at.isoformat()] for name, (n, at) in self._failed.items()},
                }
            ),
            encoding="utf-8",
        )
        os.replace(fresh, self.path)
