"""The stand-in as a program: see --help."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # `python -m tests.alpaca_stream_standin` from the project's folder
    sys.path.insert(0, str(TESTS))

from websockets.asyncio.server import serve  # noqa: E402

from alpaca_stream_standin.market import Market  # noqa: E402
from alpaca_stream_standin.server import Config, Standin  # noqa: E402

ABOUT = """\
Alpaca's live data stream on loopback, with the REST of what it sent: trades at a rate, minute bars of them.

  python -m tests.alpaca_stream_standin --port 8097 --symbols AAPL,MSFT,IBM --rate 50

It prints `listening on 127.0.0.1:PORT` and the lines for .env once it serves. While it runs (all GET):

  /standin/open?seconds=60&rate=10000   trades happen for so long
  /standin/cut?how=abort                cut every connection: abort, partial (in mid-frame), close, mute (goes silent)
  /standin/faults?frac=0.2              so many REST requests fail
  /standin/sums                         the truth, by symbol: trades, sums of ids, cents, sizes, times in microseconds
  /standin/counts                       connections, refusals, cuts, requests, messages sent
"""


async def main(options: argparse.Namespace) -> None:
    config = Config(
        key=options.key,
        secret=options.secret,
        rate=options.rate,
        linger_s=options.linger_s,
        rest_lag_s=options.rest_lag_s,
        rest_faults_frac=options.rest_faults,
        most_symbols=options.most_symbols,
        requests_per_minute=options.rate_limit,
        seed=options.seed,
    )
    standin = Standin(Market(options.symbols.split(","), options.seed), config)
    if options.open:
        standin.open_for(float("inf"))
    async with serve(
        standin.serve, "127.0.0.1", options.port, process_request=standin.answer, compression=None, max_size=None
    ) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"listening on 127.0.0.1:{port}")
        print(f"ALPACA_STREAM_URL=ws://127.0.0.1:{port}\nALPACA_DATA_URL=http://127.0.0.1:{port}")
        print(f"ALPACA_API_KEY={options.key}\nALPACA_SECRET_KEY={options.secret}", flush=True)
        await standin.run()


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.alpaca_stream_standin",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--symbols", default="AAPL,FB,GOOG,IBM,MSFT")
    parser.add_argument("--rate", type=float, default=100.0, help="trades a second")
    parser.add_argument("--open", action="store_true", help="trades happen from the start and for ever")
    parser.add_argument("--linger-s", type=float, default=0.3, help="how long a cut connection holds its key's place")
    parser.add_argument("--rest-lag-s", type=float, default=1.0, help="after which REST knows a trade")
    parser.add_argument("--rest-faults", type=float, default=0.0, metavar="FRACTION")
    parser.add_argument("--rate-limit", type=int, default=200, metavar="N", help="REST requests a minute")
    parser.add_argument("--most-symbols", type=int, default=10_000)
    parser.add_argument("--key", default=Config().key)
    parser.add_argument("--secret", default=Config().secret)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        asyncio.run(main(parse(sys.argv[1:])))
    except KeyboardInterrupt:
        sys.exit(0)
