"""python -m yahoo_standin: Yahoo's chart service on loopback, from the sample data, with faults on demand.

    python -m yahoo_standin --port 8099 --end 2026-11-20 --alias GOOGL=GOOG --alias TSLA=IBM

Prints `listening on http://127.0.0.1:PORT` once it serves. It answers what yfinance asks for:

    GET  /                             a cookie (fc.yahoo.com)
    GET  /v1/test/getcrumb             a crumb for that cookie
    GET  /consent                      the consent page without a form (no other way in)
    GET  /v8/finance/chart/SYMBOL      bars and events in today's shares, single precision, as Yahoo prints
    them

and what a test needs:

    POST /standin/fault                {"kind": ..., "symbol": "AAPL" or null, "times": 2, ...}: the next
    answers fail POST /standin/now                  {"now": unix seconds}: the service's clock; later bars
    are not there yet GET  /standin/log                  the requests so far

Kinds of fault: a number (429 with "retry_after", 500, 502, 503, 401, 403, 404), "timeout" (answers after
"seconds"), "empty" (no result), "down" (the page that says so, with 200), "text" (no JSON), "cut"
(connection closed halfway), "nulls" (a row of nulls), "twice" (the last session in two rows), "weekend" (a
row on the Saturday before), "currency".
"""

from __future__ import annotations

import argparse
import sys
from datetime import date
from http.server import ThreadingHTTPServer
from pathlib import Path

from yahoo_standin.market import Market
from yahoo_standin.server import Handler, State

SAMPLE = Path(__file__).resolve().parents[2] / "include" / "sample_data"


def main(arguments: list[str]) -> int:
    """Serve until the process is ended."""
    about = "Yahoo's chart service on loopback."
    parser = argparse.ArgumentParser(prog="python -m yahoo_standin", description=about)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--data", type=Path, default=SAMPLE)
    parser.add_argument("--end", type=date.fromisoformat, help="what the last session of the data becomes")
    parser.add_argument("--alias", action="append", default=[], metavar="NEW=OLD", help="serve OLD as NEW too")
    options = parser.parse_args(arguments)
    aliases = dict(alias.split("=", 1) for alias in options.alias)
    state = State(Market.load(options.data, aliases=aliases, end=options.end))
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.state = state  # type: ignore[attr-defined]
    server.daemon_threads = True
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
