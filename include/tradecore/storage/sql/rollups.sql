-- name: lock_ensure
-- Coarser bars change their path when the server's edition does: one process at a time.
SELECT pg_advisory_xact_lock(7240015)

-- name: path_of
-- Where a view's rows come from: 'rollups', 'aggregate' (a continuous one), or '' where there is no such view.
SELECT CASE WHEN c.oid IS NULL THEN '' WHEN pg_get_viewdef(c.oid) LIKE '%%bar_rollups%%' THEN 'rollups'
            ELSE 'aggregate' END
FROM (SELECT to_regclass(%(name)s)::oid AS oid) c

-- name: view_of_rollups
CREATE VIEW {name} AS
SELECT instrument_id, source, bucket_at, session_date, last_end_at, open, high, low, close, volume, bars
FROM bar_rollups WHERE timeframe = '{timeframe}'

-- name: view_of_aggregate
CREATE VIEW {name} AS
SELECT instrument_id, source, bucket_at - INTERVAL '1 microsecond' AS bucket_at, session_date, last_end_at, open, high,
       low, close, volume, bars
FROM {name}_kept

-- name: aggregate_bars
-- Of daily bars. A bar belongs to the bucket in which it ends: (start, end], hence the microsecond.
CREATE MATERIALIZED VIEW IF NOT EXISTS {name}_kept WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
SELECT instrument_id, source, time_bucket(INTERVAL '{width}', bar_end_at, "offset" => INTERVAL '1 microsecond')
           AS bucket_at,
       last(session_date, bar_end_at) AS session_date, max(bar_end_at) AS last_end_at,
       first(open_e4 / 1e4::float8 * adj_factor, bar_end_at) AS open, max(high_e4 / 1e4::float8 * adj_factor) AS high,
       min(low_e4 / 1e4::float8 * adj_factor) AS low, last(close_e4 / 1e4::float8 * adj_factor, bar_end_at) AS close,
       sum(volume::float8) AS volume, count(*) AS bars
FROM bars WHERE timeframe = '1d'
GROUP BY 1, 2, 3
WITH NO DATA

-- name: aggregate_minute_bars
-- Of minute bars. A day is a session: one that crosses midnight UTC would be two rows.
CREATE MATERIALIZED VIEW IF NOT EXISTS {name}_kept WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
SELECT instrument_id, source, time_bucket(INTERVAL '{width}', bar_end_at, "offset" => INTERVAL '1 microsecond')
           AS bucket_at,
       last(session_date, bar_end_at) AS session_date, max(bar_end_at) AS last_end_at,
       first(open, bar_end_at) AS open, max(high) AS high, min(low) AS low, last(close, bar_end_at) AS close,
       sum(volume) AS volume, count(*) AS bars
FROM minute_bars
GROUP BY 1, 2, 3
WITH NO DATA

-- name: refresh_aggregate
CALL refresh_continuous_aggregate(%(name)s, %(first)s::timestamptz, %(until)s::timestamptz)

-- name: roll_bars
-- The buckets of a window computed anew from daily bars, whole: what is stored already stays as it is.
INSERT INTO bar_rollups
SELECT instrument_id, %(timeframe)s, source, bucket_at,
       (array_agg(session_date ORDER BY bar_end_at DESC))[1], max(bar_end_at),
       (array_agg(open_e4 / 1e4::float8 * adj_factor ORDER BY bar_end_at))[1], max(high_e4 / 1e4::float8 * adj_factor),
       min(low_e4 / 1e4::float8 * adj_factor),
       (array_agg(close_e4 / 1e4::float8 * adj_factor ORDER BY bar_end_at DESC))[1], sum(volume::float8), count(*)
FROM (SELECT *, {bucket} AS bucket_at FROM bars
      WHERE timeframe = '1d' AND instrument_id = ANY(%(instruments)s) AND bar_end_at > %(first)s
        AND bar_end_at <= %(until)s) b
GROUP BY instrument_id, source, bucket_at
{upsert}

-- name: roll_minute_bars
INSERT INTO bar_rollups
SELECT instrument_id, %(timeframe)s, source, bucket_at,
       (array_agg(session_date ORDER BY bar_end_at DESC))[1], max(bar_end_at),
       (array_agg(open ORDER BY bar_end_at))[1], max(high), min(low), (array_agg(close ORDER BY bar_end_at DESC))[1],
       sum(volume), count(*)
FROM (SELECT *, {bucket} AS bucket_at FROM minute_bars
      WHERE instrument_id = ANY(%(instruments)s) AND bar_end_at > %(first)s AND bar_end_at <= %(until)s) b
GROUP BY instrument_id, source, bucket_at
{upsert}

-- name: upsert
ON CONFLICT (instrument_id, timeframe, source, bucket_at) DO UPDATE
SET session_date = excluded.session_date, last_end_at = excluded.last_end_at, open = excluded.open,
    high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume, bars = excluded.bars
WHERE (bar_rollups.session_date, bar_rollups.last_end_at, bar_rollups.open, bar_rollups.high, bar_rollups.low,
       bar_rollups.close, bar_rollups.volume, bar_rollups.bars)
      IS DISTINCT FROM (excluded.session_date, excluded.last_end_at, excluded.open, excluded.high, excluded.low,
                        excluded.close, excluded.volume, excluded.bars)

-- name: drop_emptied
-- Buckets whose last daily bar went away (a restatement that fails). Minute bars go by age: their buckets stay.
DELETE FROM bar_rollups r
WHERE r.timeframe = %(timeframe)s AND r.instrument_id = ANY(%(instruments)s) AND r.bucket_at >= %(first)s
  AND r.bucket_at < %(until)s
  AND NOT EXISTS (SELECT 1 FROM bars b
                  WHERE b.instrument_id = r.instrument_id AND b.timeframe = '1d' AND b.source = r.source
                    AND b.bar_end_at > r.bucket_at AND b.bar_end_at <= r.last_end_at)

-- name: note_due
INSERT INTO rollup_due (of_table, first_end_at, last_end_at) VALUES (%(of_table)s, %(first)s, %(last)s)
ON CONFLICT DO NOTHING

-- name: due
SELECT of_table, first_end_at, last_end_at FROM rollup_due ORDER BY 1, 2, 3

-- name: due_done
DELETE FROM rollup_due WHERE of_table = %s AND first_end_at = %s AND last_end_at = %s

-- name: span
SELECT min(bar_end_at), max(bar_end_at) FROM {table}

-- name: instruments_of
SELECT DISTINCT instrument_id FROM {table} ORDER BY 1
