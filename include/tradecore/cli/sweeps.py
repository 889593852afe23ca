"""Sweeps and walk-forwards: many parameter sets of a strategy, and what the best of them were worth afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tradecore.cli.shell import Json, app, compiling, connection, load_settings, now, parse_day, show
from tradecore.errors import ConfigError

if TYPE_CHECKING:
    import psycopg

    from tradecore.research.sweep.evaluate import Spec
    from tradecore.research.sweep.planning import Plan
    from tradecore.settings import Settings

sweeps = typer.Typer(no_args_is_help=True, help="Sweeps that are in the database.")
app.add_typer(sweeps, name="sweeps")

Params = Annotated[
    list[str] | None,
    typer.Option("--param", help="NAME=LOW:HIGH:STEP, NAME=LOW:HIGH, NAME=a,b,c or NAME=VALUE; once a parameter."),
]
First = Annotated[str, typer.Option("--first", help="First session of the range, YYYY-MM-DD.")]
Last = Annotated[str, typer.Option("--last", help="Last session of the range.")]
Sample = Annotated[str, typer.Option("--sample", help="grid, random or sobol.")]
Sets = Annotated[int, typer.Option("--n", min=0, help="Sets of a random or Sobol sample.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of a random or Sobol sample.")]
Metric = Annotated[str, typer.Option("--metric", help="What is best: sharpe, sortino, calmar, total_return, ...")]
Engine = Annotated[str, typer.Option("--engine", help="fold, screen (moving averages), or auto.")]
ChunkSize = Annotated[int, typer.Option("--chunk-size", min=0, help="Sets a chunk; default: by engine.")]
Jobs = Annotated[int, typer.Option("--jobs", min=-1, help="Workers; -1 (or 0): one a core.")]
Backend = Annotated[str, typer.Option("--backend", help="Of joblib: loky, threading, or another by name.")]
Yield = Annotated[bool, typer.Option("--yield-to-trading", help="Stand aside while the trading day runs.")]
SweepId = Annotated[str, typer.Argument(metavar="SWEEP_ID", help="As `python -m tradecore sweeps list` shows it.")]


@app.command()
def sweep(
    strategy: Annotated[str, typer.Argument(metavar="[STRATEGY]", help="Its name; none with --resume.")] = "",
    param: Params = None,
    first: First = "",
    last: Last = "",
    sample: Sample = "grid",
    n: Sets = 0,
    seed: Seed = 0,
    metric: Metric = "sharpe",
    engine: Engine = "auto",
    chunk_size: ChunkSize = 0,
    jobs: Jobs = -1,
    backend: Backend = "loky",
    top: Annotated[int, typer.Option("--top", min=1, help="How many of the best go through the production fold.")] = 10,
    resume: Annotated[str, typer.Option("--resume", metavar="SWEEP_ID", help="Go on with a sweep.")] = "",
    yield_to_trading: Yield = False,
    as_json: Json = False,
) -> None:
    """Try a strategy with many parameters; the best go through the production fold. Results are in the database, in a
    Parquet file and on a page. Stopped or killed, the same command, or --resume, goes on: no chunk is done twice.

    Example: python -m tradecore sweep ma_crossover --param short_period=5:50:5 --param long_period=20:200:10
    --first 2004-09-01 --last 2012-12-31

    Example: python -m tradecore sweep donchian_breakout --param entry_period=10:100 --param exit_period=5:50
    --sample sobol --n 256 --metric calmar --first 2004-09-01 --last 2012-12-31 --jobs 2
    """
    from tradecore.research.sweep import planning, results

    found = load_settings()
    if bool(strategy) == bool(resume):
        raise ConfigError("give a STRATEGY, or --resume SWEEP_ID.", next_step="python -m tradecore sweep --help")
    with compiling(), connection(found) as conn:
        if resume:
            plan = planning.resume(found, conn, resume)
        else:
            spec = _spec(found, strategy, param, first, last, sample, n, seed, metric, engine, chunk_size)
            plan = planning.begin(found, conn, spec, now())
        resumed = f"python -m tradecore sweep --resume {plan.sweep_id}"
        _run(found, conn, plan, jobs, backend, yield_to_trading, resumed)
        lines = results.fold_best(conn, plan, top)
        record = planning.find(conn, plan.sweep_id)
        files = results.folder(found)
        parquet, page = files / f"{plan.sweep_id}.parquet", files / f"{plan.sweep_id}.html"
        results.write_parquet(conn, record, parquet)
        results.write_page(conn, record, page)
    answer = {"sweep_id": plan.sweep_id, "engine": plan.spec.engine, "n_sets": plan.spec.n_sets}
    answer |= {"n_results": record["n_results"], "best": lines, "parquet": str(parquet), "page": str(page)}
    text = f"sweep {plan.sweep_id}: {record['n_results']:,} results of {plan.spec.n_sets:,} sets\n"
    text += results.best_text(lines, plan.spec.engine, plan.spec.metric) + f"\nparquet  {parquet}\npage     {page}"
    show(answer, as_json, text)


@app.command("walk-forward")
def walk_forward(
    strategy: Annotated[str, typer.Argument(metavar="STRATEGY", help="Its name.")],
    first: First,
    last: Last,
    param: Params = None,
    train: Annotated[int, typer.Option("--train", min=1, help="Sessions to optimise on.")] = 504,
    test: Annotated[int, typer.Option("--test", min=1, help="Sessions to trade with what was best.")] = 126,
    gap: Annotated[
        int, typer.Option("--gap", min=-1, help="Sessions between them; default: the longest look-back.")
    ] = -1,
    anchored: Annotated[bool, typer.Option("--anchored", help="Each training begins with the first session.")] = False,
    sample: Sample = "grid",
    n: Sets = 0,
    seed: Seed = 0,
    metric: Metric = "sharpe",
    engine: Engine = "auto",
    chunk_size: ChunkSize = 0,
    jobs: Jobs = -1,
    backend: Backend = "loky",
    yield_to_trading: Yield = False,
    as_json: Json = False,
) -> None:
    """Optimise on a window, trade the next one with the best of it through the production fold, and so on: the joined
    out-of-sample curve and the parameters on the way. Stopped, the same command goes on.

    Example: python -m tradecore walk-forward ma_crossover --param short_period=5:50:5 --param long_period=20:200:20
    --first 2004-09-01 --last 2012-12-31 --train 504 --test 126
    """
    from tradecore.research import walk_forward as research

    found = load_settings()
    with compiling(), connection(found) as conn:
        spec = _spec(found, strategy, param, first, last, sample, n, seed, metric, engine, chunk_size)
        shape = research.Shape(train=train, test=test, gap=None if gap < 0 else gap, anchored=anchored)
        walk = research.begin(found, conn, spec, shape, now())
        for window in walk.windows:
            _run(found, conn, window.plan, jobs, backend, yield_to_trading, "the same command")
        done = research.finish(conn, walk)
    show(research.as_record(walk, done), as_json, research.summary(walk, done))


@sweeps.command("list")
def list_sweeps(
    most: Annotated[int, typer.Option("--most", min=1, max=1000, help="How many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List the newest sweeps and how far they are. Example: python -m tradecore sweeps list"""
    from tradecore.storage import sweeps as storage

    with connection(load_settings()) as conn:
        rows = storage.sweeps(conn, most)
    text = "\n".join(
        f"{r['sweep_id']}  {r['created_at']:%Y-%m-%d %H:%M}  {r['strategy']:<22} {r['sample']:<6} {r['engine']:<6} "
        f"{r['first_session']} {r['last_session']}  {r['n_sets']:>9,} sets  {r['chunks_done']}/{r['n_chunks']} chunks"
        for r in rows
    )
    show(rows, as_json, text or "no sweep yet: python -m tradecore sweep --help")


@sweeps.command("show")
def show_sweep(
    sweep_id: SweepId,
    top: Annotated[int, typer.Option("--top", min=1, help="How many of its best.")] = 10,
    as_json: Json = False,
) -> None:
    """Show a sweep and its best. Example: python -m tradecore sweeps show sw-0123456789ab"""
    from tradecore.research.sweep import planning, results
    from tradecore.storage import sweeps as storage

    with connection(load_settings()) as conn:
        record = planning.find(conn, sweep_id)
        lines = storage.folded_best(conn, sweep_id)[:top]
    text = "\n".join(f"{name:<14} {value}" for name, value in record.items() if name != "spec")
    if lines:
        text += "\n" + results.best_text(lines, record["engine"], record["metric"])
    show({**record, "best": lines}, as_json, text)


@sweeps.command("heatmap")
def heatmap(
    sweep_id: SweepId,
    x: Annotated[str, typer.Option("--x", help="Parameter to the right; default: the first.")] = "",
    y: Annotated[str, typer.Option("--y", help="Parameter upwards; default: the next.")] = "",
    metric: Annotated[str, typer.Option("--metric", help="Figure; default: the sweep's.")] = "",
    as_json: Json = False,
) -> None:
    """Write the page of a sweep. Example: python -m tradecore sweeps heatmap sw-0123456789ab --metric max_drawdown"""
    from tradecore.research.sweep import planning, results

    found = load_settings()
    with connection(found) as conn:
        record = planning.find(conn, sweep_id)
        page = results.folder(found) / f"{sweep_id}.html"
        results.write_page(conn, record, page, x=x, y=y, metric=metric)
    show({"page": str(page)}, as_json, str(page))


def _spec(
    settings: Settings,
    strategy: str,
    param: list[str] | None,
    first: str,
    last: str,
    sample: str,
    n: int,
    seed: int,
    metric: str,
    engine: str,
    chunk_size: int,
) -> Spec:
    from tradecore.research.sweep import planning, space

    if not first or not last:
        raise ConfigError("a sweep needs its range.", next_step="add --first and --last, YYYY-MM-DD")
    return planning.specify(
        settings,
        strategy,
        [space.parse_axis(text) for text in param or ()],
        first=parse_day(first),
        last=parse_day(last),
        sample=sample,
        n_sets=n,
        seed=seed,
        metric=metric,
        engine=engine,
        chunk_size=chunk_size,
    )


def _run(
    settings: Settings,
    conn: psycopg.Connection,
    plan: Plan,
    jobs: int,
    backend: str,
    yield_to_trading: bool,
    again: str,
) -> None:
    """Compute what is left of a sweep, with a progress bar on a terminal; say how to go on when it is stopped."""
    from tqdm import tqdm

    from tradecore.research.quiet_hours import wait_s
    from tradecore.research.sweep import running

    may_begin: Callable[[float], float] | None = None
    if yield_to_trading:
        may_begin = lambda work_s: wait_s(settings, now(), work_s)  # noqa: E731 - one expression, two types
    options: dict[str, Any] = {"jobs": jobs or -1, "backend": backend, "wait_s": may_begin, "now": now}
    with tqdm(total=plan.spec.n_sets, unit="set", desc=plan.sweep_id, disable=None) as bar:
        try:
            while (seconds := running.run(conn, plan, done=bar.update, **options)) > 0:
                bar.reset()
                typer.echo(f"the trading day goes first: on again in {seconds / 60:.0f} minutes", err=True)
                time.sleep(seconds)
        except KeyboardInterrupt:
            typer.echo(f"stopped; what is done is kept. Go on with: {again}", err=True)
            raise
