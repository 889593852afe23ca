-- name: lock
-- Archiving, retention and import of archived data: one at a time.
SELECT pg_advisory_xact_lock(7240016)

-- name: oldest
SELECT min({time}) FROM {table} WHERE {time} < %(before)s

-- name: oldest_from
SELECT min({time}) FROM {table} WHERE {time} >= %(since)s AND {time} < %(before)s

-- name: held
SELECT 1 FROM archives
WHERE of_table = %(of_table)s AND first_at < %(until)s AND until_at > %(first)s AND held_until > %(now)s LIMIT 1

-- name: content_of
SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {table} AS t
WHERE {time} >= %(first)s AND {time} < %(until)s

-- name: lock_rows
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE

-- name: read_minute_bars
-- In the order of the key: the same rows are the same content, whatever the disk's order.
COPY (SELECT instrument_id, source, bar_end_at, session_date, known_at, open, high, low, close, volume, trade_count, vwap
      FROM minute_bars WHERE bar_end_at >= {first} AND bar_end_at < {until}
      ORDER BY instrument_id, source, bar_end_at) TO STDOUT (FORMAT csv, HEADER true)

-- name: read_trades
COPY (SELECT instrument_id, source, trade_at, exchange, trade_id, price, size, conditions
      FROM trades WHERE trade_at >= {first} AND trade_at < {until}
      ORDER BY instrument_id, source, trade_at, exchange, trade_id) TO STDOUT (FORMAT csv, HEADER true)

-- name: symbols
SELECT DISTINCT ON (instrument_id) instrument_id, symbol FROM instrument_symbols ORDER BY instrument_id, valid_from DESC

-- name: add_archive
INSERT INTO archives (of_table, first_at, until_at, content_hash, file_name, row_count, archived_at)
VALUES (%(of_table)s, %(first)s, %(until)s, %(hash)s, %(file)s, %(rows)s, %(now)s)
ON CONFLICT (of_table, first_at, until_at, content_hash) DO UPDATE SET file_name = excluded.file_name
WHERE archives.file_name <> excluded.file_name

-- name: drop_chunks
SELECT count(*) FROM drop_chunks({table}, older_than => %(until)s::timestamptz, newer_than => %(first)s::timestamptz)

-- name: delete_rows
DELETE FROM {table} WHERE {time} >= %(first)s AND {time} < %(until)s

-- name: mark_dropped
UPDATE archives SET dropped_at = %(now)s, held_until = NULL
WHERE of_table = %(of_table)s AND first_at = %(first)s AND until_at = %(until)s

-- name: import_stage
CREATE TEMP TABLE stage_import (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DROP

-- name: import_rows
-- What the database has already stays: it may know a later statement of the vendor.
INSERT INTO {table} ({columns}) SELECT {columns} FROM stage_import ON CONFLICT DO NOTHING

-- name: hold
INSERT INTO archives (of_table, first_at, until_at, content_hash, file_name, row_count, archived_at, held_until)
VALUES (%(of_table)s, %(first)s, %(until)s, %(hash)s, %(file)s, %(rows)s, %(now)s, %(held)s)
ON CONFLICT (of_table, first_at, until_at, content_hash) DO UPDATE SET held_until = excluded.held_until, dropped_at = NULL

-- name: archives
SELECT of_table, first_at, until_at, row_count, file_name, archived_at, dropped_at, held_until FROM archives
ORDER BY of_table, first_at, archived_at

-- name: compressed
SELECT compression_enabled FROM timescaledb_information.hypertables
WHERE hypertable_schema = 'tradecore' AND hypertable_name = %s

-- name: chunks_to_compress
SELECT format('%%I.%%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
WHERE hypertable_schema = 'tradecore' AND hypertable_name = %(of_table)s AND NOT is_compressed
  AND range_end <= %(before)s
ORDER BY range_end

-- name: compression_size
SELECT coalesce(sum(before_compression_total_bytes), 0)::bigint, coalesce(sum(after_compression_total_bytes), 0)::bigint
FROM chunk_compression_stats(%s::regclass) WHERE compression_status = 'Compressed'

-- name: to_vacuum
-- Tables of ours with many dead rows, or grown since the planner last looked.
SELECT relid::regclass::text, n_dead_tup FROM pg_stat_user_tables
WHERE (schemaname = 'tradecore' OR schemaname = '_timescaledb_internal')
  AND (n_dead_tup > 1000 + n_live_tup / 10 OR n_mod_since_analyze > 1000 + n_live_tup / 10)
ORDER BY 1

-- name: add_run
INSERT INTO maintenance_runs (step, started_at, ended_at, result)
VALUES (%(step)s, %(started)s, %(ended)s, %(result)s::jsonb)
ON CONFLICT (step) DO UPDATE SET started_at = excluded.started_at, ended_at = excluded.ended_at, result = excluded.result

-- name: runs
SELECT step, ended_at, result FROM maintenance_runs ORDER BY ended_at

-- name: behind
-- The bounds keep the least of a time to the chunks and BRIN ranges of before them: no index leads with it.
SELECT (SELECT count(*) FROM rollup_due),
       least((SELECT min(trade_at) FROM trades WHERE trade_at < %(trades)s),
             (SELECT min(bar_end_at) FROM minute_bars WHERE bar_end_at < %(minutes)s)),
       EXISTS (SELECT FROM trades) OR EXISTS (SELECT FROM minute_bars)

-- name: create_minute_stage
CREATE TEMP TABLE IF NOT EXISTS stage_minutes (
    instrument_id integer, bar_end_at timestamptz, session_date date, open double precision, high double precision,
    low double precision, close double precision, volume double precision) ON COMMIT DELETE ROWS

-- name: put_minutes
-- The newest statement counts; of copies of one bar any. What is there already stays as it is.
INSERT INTO minute_bars (instrument_id, bar_end_at, source, session_date, known_at, open, high, low, close, volume)
SELECT DISTINCT ON (instrument_id, bar_end_at)
       instrument_id, bar_end_at, %(source)s, session_date, %(now)s, open, high, low, close, volume
FROM stage_minutes
ORDER BY instrument_id, bar_end_at
ON CONFLICT (instrument_id, source, bar_end_at) DO UPDATE
SET session_date = excluded.session_date, known_at = excluded.known_at, open = excluded.open, high = excluded.high,
    low = excluded.low, close = excluded.close, volume = excluded.volume
WHERE (minute_bars.open, minute_bars.high, minute_bars.low, minute_bars.close, minute_bars.volume)
      IS DISTINCT FROM (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume)
