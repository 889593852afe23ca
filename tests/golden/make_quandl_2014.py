"""Make quandl_2014.csv from the source distribution of zipline-reloaded 3.2.1: Apple and Microsoft in 2014.

    pip download --no-deps --no-binary zipline-reloaded zipline-reloaded==3.2.1
    python tests/golden/make_quandl_2014.py zipline_reloaded-3.2.1.tar.gz --check

Rows are copied as they are; columns that follow from the others are left out. Standard library only.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

SHA256 = "f8e630985da613dff74800fda693bb926fe72b286c3e53fc747049f4a29fcd2a"
MEMBER = "zipline_reloaded-3.2.1/tests/resources/quandl_samples/QUANDL_ARCHIVE.zip"
COLUMNS = ("ticker", "date", "open", "high", "low", "close", "volume", "ex-dividend", "split_ratio", "adj_close")
TARGET = Path(__file__).with_name("quandl_2014.csv")


def make(archive: Path) -> str:
    """Return the text of the slice. Raises SystemExit for another archive."""
    data = archive.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        sys.exit(f"{archive} has sha256 {found}, expected {SHA256}. Next: use zipline-reloaded==3.2.1.")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        packed = tar.extractfile(MEMBER)
        assert packed is not None
        with zipfile.ZipFile(io.BytesIO(packed.read())) as inner:
            text = inner.read("QUANDL_SAMPLE_TABLE.csv").decode()
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["ticker"] in ("AAPL", "MSFT")]
    return "\n".join([",".join(COLUMNS), *(",".join(row[c] for c in COLUMNS) for row in rows)]) + "\n"


if __name__ == "__main__":
    made = make(Path(sys.argv[1]))
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text() == made else f"{TARGET.name} differs.")
    TARGET.write_text(made)
