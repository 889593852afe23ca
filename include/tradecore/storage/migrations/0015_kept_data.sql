-- What is kept beside the bars that decisions are made on: raw ticks and minute bars, coarser bars, values of
-- alternative series, and what became of old raw data.

-- Trades as the vendor printed them; a trade's id is unique within its exchange. Hypertable chunks of a day (0016).
CREATE TABLE trades (
    instrument_id  integer NOT NULL,
    trade_at       timestamptz NOT NULL,
    source         text NOT NULL,
    exchange       text NOT NULL DEFAULT '',
    trade_id       bigint NOT NULL,
    price          double precision NOT NULL,
    size           double precision NOT NULL,
    conditions     text NOT NULL DEFAULT '',
    PRIMARY KEY (instrument_id, source, trade_at, exchange, trade_id)
);
CREATE INDEX trades_time ON trades USING brin (trade_at);

-- Raw minute bars, for research and coarser bars: a table of their own, so that old ones go by whole chunks of a week
-- (a book that trades 'Nm' bars has them in bar_versions and bars, which lose nothing). The newest statement of the
-- vendor counts. Prices in USD as printed, volume in shares; vwap NaN where the vendor gives none.
CREATE TABLE minute_bars (
    instrument_id  integer NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    source         text NOT NULL,
    session_date   date NOT NULL,
    known_at       timestamptz NOT NULL,
    open           double precision NOT NULL,
    high           double precision NOT NULL,
    low            double precision NOT NULL,
    close          double precision NOT NULL,
    volume         double precision NOT NULL,
    trade_count    integer NOT NULL DEFAULT 0,
    vwap           double precision NOT NULL DEFAULT 'NaN',
    PRIMARY KEY (instrument_id, source, bar_end_at)
);
CREATE INDEX minute_bars_time ON minute_bars USING brin (bar_end_at);

-- Coarser bars on a server without continuous aggregates; where it has them this stays empty. Which of the two: the
-- views of storage/rollups.py. Of daily bars ('1w', '1mo') prices are forward-adjusted USD, of minute bars raw.
CREATE TABLE bar_rollups (
    instrument_id  integer NOT NULL,
    timeframe      text NOT NULL CHECK (timeframe IN ('1w', '1mo', '5m', '1h', '1d')),
    source         text NOT NULL,
    bucket_at      timestamptz NOT NULL,
    session_date   date NOT NULL,
    last_end_at    timestamptz NOT NULL,
    open           double precision NOT NULL,
    high           double precision NOT NULL,
    low            double precision NOT NULL,
    close          double precision NOT NULL,
    volume         double precision NOT NULL,
    bars           bigint NOT NULL,
    PRIMARY KEY (instrument_id, timeframe, source, bucket_at)
);

-- Windows in which bars changed and continuous aggregates are behind: refreshed after the commit, outside it.
CREATE TABLE rollup_due (
    of_table       text NOT NULL CHECK (of_table IN ('bars', 'minute_bars')),
    first_end_at   timestamptz NOT NULL,
    last_end_at    timestamptz NOT NULL,
    PRIMARY KEY (of_table, first_end_at, last_end_at)
);

-- Values that are no prices (fundamentals, sentiment, macro). value_at: what a value is about (a quarter's end);
-- known_at: when it was published; recorded_at: when it came to this database, later than every time of before as of
-- which something was read. instrument_id 0: of the whole market. Append-only: a restated value is one more row.
CREATE TABLE series_values (
    series         text NOT NULL,
    instrument_id  integer NOT NULL,
    value_at       timestamptz NOT NULL,
    known_at       timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    value          double precision NOT NULL,
    source         text NOT NULL,
    PRIMARY KEY (series, instrument_id, value_at, known_at, recorded_at)
);

-- Files that old raw data were written to. dropped_at: when the rows left the database; held_until: an import of the
-- file brought them back, and retention leaves them alone until then.
CREATE TABLE archives (
    of_table       text NOT NULL CHECK (of_table IN ('trades', 'minute_bars')),
    first_at       timestamptz NOT NULL,
    until_at       timestamptz NOT NULL,
    content_hash   text NOT NULL,
    file_name      text NOT NULL,
    row_count      bigint NOT NULL,
    archived_at    timestamptz NOT NULL,
    dropped_at     timestamptz,
    held_until     timestamptz,
    PRIMARY KEY (of_table, first_at, until_at, content_hash)
);

-- The last run of each step of maintenance.
CREATE TABLE maintenance_runs (
    step           text PRIMARY KEY,
    started_at     timestamptz NOT NULL,
    ended_at       timestamptz NOT NULL,
    result         jsonb NOT NULL
);
