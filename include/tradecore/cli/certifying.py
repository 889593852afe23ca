"""Proofs of validity for a strategy, before it may trade."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tradecore.cli.shell import EXIT_UNHEALTHY, Json, app, compiling, connection, load_settings, now, parse_day, show


@app.command()
def certify(
    strategy: Annotated[str, typer.Argument(help="Its name in trading.yaml, or the kind of one that is not there.")],
    param: Annotated[
        list[str] | None, typer.Option(help="key=value over the configured ones; may be repeated.")
    ] = None,
    first: Annotated[str, typer.Option(help="First session; default: the first after the look-back.")] = "",
    last: Annotated[str, typer.Option(help="Last session; default: the last that is loaded.")] = "",
    tried: Annotated[
        int, typer.Option(min=0, help="Other strategies and parameters that you tried before: luck to be deflated.")
    ] = 0,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Take sessions without any bar as days without a trade.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Prove a strategy on the loaded bars: no look-ahead, nothing read beside its window; then cross-validation,
    deflated Sharpe ratio, overfitting, bootstrap, trades, costs. Writes a certificate; exit 2 where a required check
    fails.

    Example: python -m tradecore certify ma_crossover --param short_period=10
    """
    from tradecore.research import certify as research

    found = load_settings()

    def progress(what: str, done: int, all_: int) -> None:
        if sys.stderr.isatty():
            bar = f" {done:>6,} of {all_:,}" if all_ > 1 else ""
            typer.echo(f"\r  {what:<12}{bar:<20}", err=True, nl=False)
        elif done == 0 or done == all_:
            typer.echo(f"  {what}", err=True)

    with compiling(), connection(found) as conn:
        made = research.certify(
            found,
            conn,
            strategy=strategy,
            params=research.parsed_params(param or []),
            first=parse_day(first) if first else None,
            last=parse_day(last) if last else None,
            tried=tried,
            allow_gaps=allow_gaps,
            now=now(),
            progress=progress,
        )
    if sys.stderr.isatty():
        typer.echo("\r" + " " * 40 + "\r", err=True, nl=False)
    content = made.content
    words = {None: "-", True: "ok", False: "weak"}
    lines = [
        f"{'FAILS' if c['required'] and not c['ok'] else words[c['ok']]:<6}{c['title']}: {c['says']}."
        for c in content["checks"]
    ]
    lines += ["", f"{'passed' if made.passed else 'NOT PASSED'}: {made.html_path}"]
    show({**content, "certificate_hash": made.hash}, as_json, "\n".join(lines))
    if not made.passed:
        raise SystemExit(EXIT_UNHEALTHY)
