"""Alpaca's market data, Alpha Vantage and Bitstamp on 127.0.0.1, with the sample's prices."""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path

from vendor_standin.market import Market
from vendor_standin.server import Server, State

SAMPLE = Path(__file__).resolve().parents[2] / "include" / "sample_data"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vendor_standin", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--prices", type=Path, default=SAMPLE)
    parser.add_argument("--first", type=date.fromisoformat, default=date(2004, 9, 1))
    parser.add_argument("--last", type=date.fromisoformat, default=date(2005, 3, 31))
    options = parser.parse_args()
    server = Server(
        ("127.0.0.1", options.port), State(lambda: Market.load(options.prices, options.first, options.last))
    )
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
