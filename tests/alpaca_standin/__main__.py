"""The stand-in as a program: see --help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # `python -m tests.alpaca_standin` from the project's folder
    sys.path.insert(0, str(TESTS))

from alpaca_standin import sandbox  # noqa: E402
from alpaca_standin.admin import ROUTES  # noqa: E402
from alpaca_standin.clock import Clock  # noqa: E402
from alpaca_standin.faults import FaultPlan  # noqa: E402
from alpaca_standin.journal import Journal  # noqa: E402
from alpaca_standin.market import Market, Sessions, load_bars  # noqa: E402
from alpaca_standin.server import App, Server  # noqa: E402
from alpaca_standin.state import Config  # noqa: E402

PROJECT = TESTS.parent
SAMPLE = PROJECT / "include" / "sample_data"
CALENDAR = PROJECT / "include" / "tradecore" / "data" / "sessions_XNYS.csv"

ABOUT = f"""\
Alpaca's trading and data REST and its trade_updates stream on loopback: one paper account on a market of
price files. It trades for real against those prices, refuses what Alpaca refuses, and fails on demand.

  the sample's prices, from the eve of Thanksgiving 2005 on, a minute of market in a second:
    python -m tests.alpaca_standin --port 8098 --start 2005-11-23T21:30Z --speed 60

  a standing clock that the test moves, an account that survives kill -9, a fault in five requests:
    python -m tests.alpaca_standin --start 2005-11-23T21:30Z --journal .local/standin.jsonl --fault-rate 0.2
    curl -s -X POST localhost:8098/standin/clock -d '{{"now": "2005-11-25T18:01Z"}}'

  the sample moved to today, on the real clock, with an account and a profile that last (make sandbox):
    python -m tests.alpaca_standin --port 8098 --sandbox .local/sandbox

  prices of your own (time,symbol,open,high,low,close,volume; a time with an offset starts a minute bar):
    python -m tests.alpaca_standin --prices my_prices/

It prints `listening on http://127.0.0.1:PORT` and the lines for .env once it serves. Routes beside Alpaca's:

{ROUTES}"""


def main(arguments: list[str]) -> int:
    """Serve until the process is ended."""
    options = parse(arguments)
    sessions = Sessions.load(options.calendar)
    if options.sandbox:
        options.prices = sandbox.prepare(options.sandbox, SAMPLE, sessions, Clock.real()())
        options.journal, options.start, options.speed = options.sandbox / "account.jsonl", Clock.real()(), 1.0

    def market() -> Market:
        return Market(sessions, load_bars(options.prices, sessions, options.minutes))

    start_at = options.start or market_end(market)
    clock = Clock.real()
    clock.set(start_at, options.speed)
    journal = Journal(options.journal) if options.journal else None
    app = App(market, config_of(options), clock, journal, options.latency_ms / 1000)
    if options.fault_rate:
        app.venue.faults = FaultPlan(seed=options.seed, rate_frac=options.fault_rate)
    server = Server(("127.0.0.1", options.port), app)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    print(env_lines(options, server.server_address[1]), flush=True)
    if not options.sandbox:
        print(f"the clock stands at {clock():%Y-%m-%d %H:%M} UTC" if not clock.speed else f"speed {clock.speed}")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.alpaca_standin", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--prices", type=Path, default=SAMPLE, help="a CSV file, or a folder of them")
    parser.add_argument("--minutes", type=int, default=1, help="length of bars that start at a time")
    parser.add_argument("--calendar", type=Path, default=CALENDAR, help="session_date,open_at,close_at in UTC")
    parser.add_argument("--start", type=moment, help="the clock's first time; default: the evening before the last bar")
    parser.add_argument("--speed", type=float, default=0.0, help="0 stands still, 1 is real time")
    parser.add_argument("--journal", type=Path, help="keep the account in this file")
    parser.add_argument("--sandbox", type=Path, metavar="FOLDER", help="keep bars, account and profile in it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cash", type=Decimal, default=Decimal(100_000), metavar="USD")
    parser.add_argument("--multiplier", type=int, choices=(1, 2, 4), default=2)
    parser.add_argument("--account-number", default=Config().account_number)
    parser.add_argument("--key", default=Config().key_id)
    parser.add_argument("--secret", default=Config().secret_key)
    parser.add_argument("--rate-limit", type=int, default=200, metavar="N", help="requests a minute, 0 for no limit")
    parser.add_argument("--partial-fills", type=Decimal, default=Decimal("0.1"), metavar="FRACTION")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--fault-rate", type=float, default=0.0, metavar="FRACTION", help="requests that fail, by seed")
    return parser.parse_args(arguments)


def moment(text: str) -> datetime:
    """Read a time with a UTC offset."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} needs a UTC offset, such as 2005-11-23T21:30Z")
    return at.astimezone(UTC)


def market_end(market: Callable[[], Market]) -> datetime:
    """Return the evening before the session of the last bar."""
    last = max(rows[-1].start_at for rows in market().bars.values())
    before = market().sessions.previous_close(last)
    return (before.close_at if before else last - timedelta(days=1)) + timedelta(hours=4)


def config_of(options: argparse.Namespace) -> Callable[[], Config]:
    return lambda: Config(
        key_id=options.key,
        secret_key=options.secret,
        seed=options.seed,
        account_number=options.account_number,
        cash_usd=options.cash,
        multiplier=options.multiplier,
        partial_fill_frac=options.partial_fills,
        rate_limit_per_min=options.rate_limit,
    )


def env_lines(options: argparse.Namespace, port: int) -> str:
    """Return the lines for .env."""
    keys = {"BASE_URL": f"http://127.0.0.1:{port}", "API_KEY": options.key, "SECRET_KEY": options.secret}
    lines = [f"ALPACA_{name}={value}" for name, value in keys.items()]
    if options.sandbox:
        lines.append(f"TRADECORE_CONFIG={options.sandbox / 'trading.yaml'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
