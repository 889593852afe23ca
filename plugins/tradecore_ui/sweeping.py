"""Sweeps as Airflow tasks: planned once, computed in shards by whichever workers there are, then collected.

What is done is in the database, chunk by chunk: a shard that is killed, tried again or put off goes on from there.
While the trading day needs the machine no chunk begins, and the shard holds no worker until then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, Param, PokeReturnValue

from tradecore_ui import task_env

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

    from tradecore.research.sweep.evaluate import Spec
    from tradecore.research.sweep.planning import Plan
    from tradecore.research.walk_forward import Walk
    from tradecore.settings import Settings

LOOK_AGAIN_S = 600  # at most: settings may change while a shard waits
NO_WALK = "none"
TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
DATE: dict[str, Any] = {"type": "string", "format": "date"}

log = logging.getLogger(__name__)


def sweep_fields() -> dict[str, Param]:
    """Return the form of a sweep."""
    values = "One a line: NAME=LOW:HIGH:STEP, NAME=LOW:HIGH, NAME=a,b,c or NAME=VALUE."
    walk = "Optimise on a window, trade the next one with the best: each training from its own start, or the first."
    metrics = ["sharpe", "sortino", "calmar", "total_return", "cagr", "max_drawdown", "volatility", "hit_rate"]
    whole = {"type": "integer"}
    return {
        "strategy": Param("ma_crossover", type="string", title="Strategy", description="A built-in, or your own."),
        "parameters": Param(
            ["short_period=5:50:5", "long_period=20:200:10"],
            **TEXTS,
            minItems=1,
            title="Parameters",
            description=values,
        ),
        "first_session": Param("2004-09-01", **DATE, title="First session"),
        "last_session": Param("2012-12-31", **DATE, title="Last session"),
        "sample": Param("grid", type="string", enum=["grid", "random", "sobol"], title="Sample"),
        "sets": Param(0, **whole, minimum=0, title="Sets", description="Of a random or Sobol sample."),
        "seed": Param(0, **whole, minimum=0, title="Seed", description="Of a random or Sobol sample."),
        "metric": Param("sharpe", type="string", enum=metrics, title="Metric", description="What is best."),
        "engine": Param("auto", type="string", enum=["auto", "fold", "screen"], title="Engine"),
        "tasks": Param(2, **whole, minimum=1, maximum=512, title="Tasks", description="Shards of each sweep."),
        "top": Param(10, **whole, minimum=1, maximum=1000, title="Best", description="So many go through the fold."),
        "walk_forward": Param(
            NO_WALK, type="string", enum=[NO_WALK, "rolling", "anchored"], title="Walk-forward", description=walk
        ),
        "train_sessions": Param(504, **whole, minimum=1, title="Sessions to optimise on"),
        "test_sessions": Param(126, **whole, minimum=1, title="Sessions to trade"),
        "yield_to_trading": Param(True, type="boolean", title="Stand aside while the trading day runs"),
    }


def plan_sweep() -> list[dict[str, Any]]:
    """Plan the run's sweep, or the sweeps of its walk-forward's trainings; return a shard for each task to come."""
    with task_env.task_shell() as (context, settings, conn, now):
        walk = _walk(context, settings, conn, now)
        sweep_ids = [w.plan.sweep_id for w in walk.windows] if walk else [_begin(context, settings, conn, now).sweep_id]
        tasks = int(context["params"]["tasks"])
        shards = [{"sweep_id": s, "shard": k, "shards": tasks} for s in sweep_ids for k in range(tasks)]
        log.info("Sweeps %s in %d shards", ", ".join(sweep_ids), len(shards))
        return shards


class ShardSensor(BaseSensorOperator):
    """Compute every n-th chunk of a sweep that is not there yet; while the trading day runs, hold no worker."""

    def __init__(self, *, shard: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self.shard = shard

    def poke(self, context: Context) -> PokeReturnValue:
        """Go on until the shard is done, or the trading day is near."""
        from tradecore.research import quiet_hours
        from tradecore.research.sweep import planning, running

        with task_env.task_shell() as (_, settings, conn, _now):
            plan = planning.resume(settings, conn, self.shard["sweep_id"])

            def wait_s(work_s: float) -> float:
                stands_aside = context["params"]["yield_to_trading"] and not task_env.is_dag_test(context)
                return quiet_hours.wait_s(settings, datetime.now(UTC), work_s) if stands_aside else 0.0

            chunks = range(self.shard["shard"], plan.spec.n_chunks, self.shard["shards"])
            seconds = running.run(conn, plan, chunks=chunks, now=lambda: datetime.now(UTC), wait_s=wait_s)
        if seconds:
            log.info("The trading day goes first: on again in %.0f minutes", seconds / 60)
            self.poke_interval = min(seconds, LOOK_AGAIN_S)
        return PokeReturnValue(is_done=not seconds)


def collect() -> dict[str, Any]:
    """Run the best through the production fold and write the files; or join the tests of the walk-forward."""
    from tradecore.research import walk_forward
    from tradecore.research.sweep import planning, results

    with task_env.task_shell() as (context, settings, conn, now):
        walk = _walk(context, settings, conn, now)
        if walk is not None:
            done = walk_forward.finish(conn, walk)
            log.info("%s", walk_forward.summary(walk, done))
            return {"walk_id": walk.walk_id, "windows": len(done.windows)}
        plan = _begin(context, settings, conn, now)
        results.require_whole(planning.find(conn, plan.sweep_id))
        lines = results.fold_best(conn, plan, int(context["params"]["top"]))
        log.info("%s", results.best_text(lines, plan.spec.engine, plan.spec.metric))
        record, files = planning.find(conn, plan.sweep_id), results.folder(settings)
        parquet, page = (files / f"{plan.sweep_id}.{kind}" for kind in ("parquet", "html"))
        count = results.write_parquet(conn, record, parquet)
        results.write_page(conn, record, page)
        log.info("%d results: %s and %s", count, parquet, page)
        return {"sweep_id": plan.sweep_id, "results": count, "parquet": str(parquet), "page": str(page)}


def _spec(context: Mapping[str, Any], settings: Settings) -> Spec:
    from tradecore.research.sweep import planning, space

    form = context["params"]
    return planning.specify(
        settings,
        form["strategy"],
        [space.parse_axis(text) for text in form["parameters"]],
        first=date.fromisoformat(form["first_session"]),
        last=date.fromisoformat(form["last_session"]),
        sample=form["sample"],
        n_sets=form["sets"],
        seed=form["seed"],
        metric=form["metric"],
        engine=form["engine"],
    )


def _begin(context: Mapping[str, Any], settings: Settings, conn: psycopg.Connection[Any], now: datetime) -> Plan:
    from tradecore.research.sweep import planning

    return planning.begin(settings, conn, _spec(context, settings), now)


def _walk(context: Mapping[str, Any], settings: Settings, conn: psycopg.Connection[Any], now: datetime) -> Walk | None:
    from tradecore.research import walk_forward

    form = context["params"]
    if form["walk_forward"] == NO_WALK:
        return None
    shape = walk_forward.Shape(
        train=form["train_sessions"], test=form["test_sessions"], anchored=form["walk_forward"] == "anchored"
    )
    return walk_forward.begin(settings, conn, _spec(context, settings), shape, now)
