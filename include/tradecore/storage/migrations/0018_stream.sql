-- The live stream: how far a source was received, what is missing of it, what its process says of itself. The trades
-- and minute bars themselves are in the tables of 0015.

-- Everything of these instruments up to cursor_at was received, but for the open holes.
CREATE TABLE stream_cursors (
    source          text PRIMARY KEY,
    instrument_ids  integer[] NOT NULL,
    cursor_at       timestamptz NOT NULL
);

-- A stretch that the stream did not bring: written with the first word after a cut, closed when REST has given it.
CREATE TABLE stream_holes (
    source          text NOT NULL,
    first_at        timestamptz NOT NULL,
    until_at        timestamptz NOT NULL,
    instrument_ids  integer[] NOT NULL,
    noticed_at      timestamptz NOT NULL,
    filled_at       timestamptz,
    rows_filled     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (source, first_at, until_at)
);
CREATE INDEX stream_holes_open ON stream_holes (source) WHERE filled_at IS NULL;

-- The newest word of the process of a source. A state other than 'stopped' with an old beat_at is a dead process.
CREATE TABLE stream_heartbeats (
    source          text PRIMARY KEY,
    state           text NOT NULL CHECK (state IN ('connecting', 'live', 'stopped', 'failed')),
    state_at        timestamptz NOT NULL,
    host            text NOT NULL,
    pid             integer NOT NULL,
    started_at      timestamptz NOT NULL,
    beat_at         timestamptz NOT NULL,
    messages        bigint NOT NULL,
    messages_per_s  double precision NOT NULL,
    lag_p50_ms      double precision,
    lag_p99_ms      double precision,
    rejects         bigint NOT NULL,
    cuts            integer NOT NULL,
    last_error      text NOT NULL
);

-- What became of a trade later: the venue cancelled it, or put another in its place. A trade's id holds for its day.
CREATE TABLE trade_amendments (
    instrument_id   integer NOT NULL,
    source          text NOT NULL,
    exchange        text NOT NULL,
    trade_id        bigint NOT NULL,
    amended_at      timestamptz NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('cancelled', 'corrected')),
    new_trade_id    bigint,
    price           double precision,
    size            double precision,
    PRIMARY KEY (instrument_id, source, exchange, trade_id, amended_at)
);

CREATE INDEX trade_amendments_new ON trade_amendments (instrument_id, source, exchange, new_trade_id)
    WHERE new_trade_id IS NOT NULL;

-- Trades as they stand: without the cancelled ones, corrected ones with their last price and size, in the place of the
-- trade that was wrong (REST gives the right one as a trade of its own as well: that one is left out).
CREATE VIEW trades_in_force AS
SELECT t.instrument_id, t.trade_at, t.source, t.exchange, t.trade_id, coalesce(a.price, t.price) AS price,
       coalesce(a.size, t.size) AS size, t.conditions
FROM trades t
LEFT JOIN LATERAL (
    SELECT m.kind, m.price, m.size
    FROM trade_amendments m
    WHERE m.instrument_id = t.instrument_id AND m.source = t.source AND m.exchange = t.exchange
      AND m.trade_id = t.trade_id AND m.amended_at >= t.trade_at AND m.amended_at < t.trade_at + interval '1 day'
    ORDER BY m.amended_at DESC
    LIMIT 1
) a ON true
WHERE a.kind IS DISTINCT FROM 'cancelled'
  AND NOT EXISTS (
    SELECT FROM trade_amendments n
    WHERE n.instrument_id = t.instrument_id AND n.source = t.source AND n.exchange = t.exchange
      AND n.new_trade_id = t.trade_id AND n.amended_at >= t.trade_at - interval '1 day'
      AND n.amended_at < t.trade_at + interval '1 day'
  );
