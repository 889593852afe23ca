"""The daily proof: a session computed again from what its decision names must give the same hashes."""

from __future__ import annotations

import json

from tradecore.context import Context
from tradecore.research.replay.reading import SQL
from tradecore.research.replay.run import Result, replay

CAUSES = {
    "data": "the bars of then are not those that the database gives as of then",
    "config": "the configuration of then was not kept, or reads otherwise now",
    "code": "the code is not that of then",
}


def prove(ctx: Context) -> Result:
    """Replay a bar as of its decision, store the verdict, and raise an alert where a stage differs. Commits.

    What the next session made of it is no part of the proof. `for_the_report`: the report must say so, or no longer.
    Raises BookError for a bar that has not settled.
    """
    found = replay(ctx)
    stage = str(found["stage"])
    verdict = "different" if stage else "equal"
    changed = [name for name, said in found["inputs"].items() if said == "different"]
    cause = "; ".join(CAUSES[name] for name in changed) or "data, configuration and code are those of then"
    lines = [line for line in found["text"] if not line.startswith("  next")]
    detail = "\n".join(lines[:10]) if stage else ""
    hashes = json.dumps(found["hashes"], sort_keys=True)
    with ctx.conn.transaction():
        before = ctx.conn.execute(SQL["proof"], ctx.key).fetchone()
        ctx.conn.execute(
            SQL["keep_proof"],
            {
                "book": ctx.book,
                "bar_end": ctx.bar_end_at,
                "session": ctx.session_date,
                "verdict": verdict,
                "stage": stage,
                "inputs": ", ".join(changed),
                "detail": detail,
                "hashes": hashes,
                "now": ctx.now,
            },
        )
        if stage:
            ctx.alert(
                kind="proof",
                severity="error",
                stage="prove",
                key=f"{stage}:{','.join(changed)}",
                title=f"The daily proof differs from stage {stage} on",
                body=f"Computed again, {stage} gives something else than what was decided on; {cause}.\n{detail}",
                next_step=f"python -m tradecore replay {ctx.session_date} --book {ctx.book}",
            )
    ctx.conn.commit()
    return {
        "proof": verdict,
        "stage": stage,
        "changed_inputs": changed,
        "decided": found["decided"],
        "hashes": found["hashes"]["replayed"],
        "detail": detail,
        "for_the_report": bool(stage) or (before is not None and before[0] == "different"),
    }
