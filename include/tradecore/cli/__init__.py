"""The same stages from a shell. Every command has --help with an example and --json for machines.

Heavy imports stay inside the commands: `watch` runs for months on a small machine without numpy.
"""

from tradecore.cli import (  # noqa: I001 - the order of --help
    stages,
    people,
    venue,
    looking,
    replaying,
    anomalies,
    research,
    sweeps,
    certifying,
    risking,
    auditing,
    streaming,
    upkeep,
    keeping,
    loading,
    backups,
)
from tradecore.cli.shell import app, main

__all__ = [
    "anomalies",
    "app",
    "auditing",
    "backups",
    "certifying",
    "keeping",
    "loading",
    "looking",
    "main",
    "people",
    "replaying",
    "research",
    "risking",
    "stages",
    "streaming",
    "sweeps",
    "upkeep",
    "venue",
]
