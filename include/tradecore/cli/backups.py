"""Backups: made, proved, listed, brought back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tradecore.cli.shell import Json, app, load_settings, now, show
from tradecore.settings import Settings

backup = typer.Typer(no_args_is_help=True, help="Encrypted backups of the whole database.")
app.add_typer(backup, name="backup")
Key = Annotated[Path | None, typer.Option("--key", help="File with the key; default: .local/backup.key.")]
Folder = Annotated[Path | None, typer.Option("--to", help="Folder; default: .local/backups.")]


def _key(found: Settings, key: Path | None) -> Path:
    return key or found.local_dir / "backup.key"


@backup.command("create")
def backup_create(
    to: Folder = None,
    key: Key = None,
    keep: Annotated[int, typer.Option("--keep", help="Newest ones that stay, beside one a month.", min=1)] = 14,
    as_json: Json = False,
) -> None:
    """Write an encrypted backup, restore it into a scratch database, compare every table, then remove old ones.

    The first one makes the key. Keep a copy of the key elsewhere: without it no backup can be read.

    Example: python -m tradecore backup create --to /mnt/usb/backups
    """
    from tradecore import backup as backups
    from tradecore.storage import embedded

    found = load_settings()
    path = _key(found, key)
    new = not path.exists()
    made = backups.create(
        found.database_url or embedded.ensure(found.home),
        to or found.local_dir / "backups",
        backups.load_key(path, make=True),
        now(),
        keep=keep,
    )
    text = (
        f"{made.file}: {made.tables} tables, {made.rows:,} rows, {made.bytes / 1e6:.1f} MB, restored once and the same"
    )
    text += f"\nremoved: {', '.join(made.removed)}" if made.removed else ""
    text += f"\nNEW KEY {path}: copy it to another place; without it no backup can be read" if new else ""
    record = {"file": str(made.file), "bytes": made.bytes, "tables": made.tables, "rows": made.rows}
    show(record | {"removed": made.removed, "new_key": str(path) if new else ""}, as_json, text)


@backup.command("verify")
def backup_verify(file: Path, key: Key = None, as_json: Json = False) -> None:
    """Read a backup to its end: whole, unaltered, made with this key. Example: ... backup verify FILE"""
    from tradecore import backup as backups

    record = backups.verify(file, backups.load_key(_key(load_settings(), key)))
    rows = sum(int(count) for count, _ in record["tables"].values())
    text = f"{file}: whole; of {record['made_at']}, PostgreSQL {record['server']}, {len(record['tables'])} tables"
    text += f", {rows:,} rows"
    show({name: record[name] for name in ("made_at", "server", "timescaledb")} | {"rows": rows}, as_json, text)


@backup.command("list")
def backup_list(to: Folder = None, as_json: Json = False) -> None:
    """List the backups of a folder. Example: python -m tradecore backup list"""
    folder = to or load_settings().local_dir / "backups"
    files = [{"file": str(p), "bytes": p.stat().st_size} for p in sorted(folder.glob("tradecore-*"))]
    show(files, as_json, "\n".join(f"{f['bytes']:>14,}  {f['file']}" for f in files) or f"no backups in {folder}")


@app.command()
def restore(file: Path, key: Key = None, as_json: Json = False) -> None:
    """Bring a backup into the configured database, which has to be empty; every table is compared.

    Example: DATABASE_URL=postgresql://.../tradecore_new python -m tradecore restore FILE
    """
    from tradecore import backup as backups
    from tradecore.storage import embedded

    found = load_settings()
    url = found.database_url or embedded.ensure(found.home)
    record = backups.restore(url, file, backups.load_key(_key(found, key)))
    text = f"restored, and the same in all {len(record['tables'])} tables, as of {record['made_at']}"
    show({"made_at": record["made_at"], "tables": len(record["tables"])}, as_json, f"{text}\n  next: make up")
