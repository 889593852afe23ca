-- name: stage_trades
CREATE TEMP TABLE IF NOT EXISTS stage_trades (
    instrument_id integer, trade_at timestamptz, exchange text, trade_id bigint, price float8, size float8,
    conditions text
) ON COMMIT DELETE ROWS

-- name: copy_trades
COPY stage_trades (instrument_id, trade_at, exchange, trade_id, price, size, conditions) FROM STDIN (FORMAT BINARY)

-- name: append_trades
INSERT INTO trades (instrument_id, trade_at, source, exchange, trade_id, price, size, conditions)
SELECT instrument_id, trade_at, %(source)s, exchange, trade_id, price, size, conditions FROM stage_trades
ON CONFLICT DO NOTHING

-- name: stage_minute_bars
CREATE TEMP TABLE IF NOT EXISTS stage_minute_bars (
    row_no integer, instrument_id integer, bar_end_at timestamptz, session_date date, open float8, high float8,
    low float8, close float8, volume float8, trade_count integer, vwap float8
) ON COMMIT DELETE ROWS

-- name: copy_minute_bars
COPY stage_minute_bars (row_no, instrument_id, bar_end_at, session_date, open, high, low, close, volume, trade_count,
                        vwap) FROM STDIN (FORMAT BINARY)

-- name: put_minute_bars
INSERT INTO minute_bars AS m (instrument_id, bar_end_at, source, session_date, known_at, open, high, low, close, volume,
                              trade_count, vwap)
SELECT DISTINCT ON (instrument_id, bar_end_at) instrument_id, bar_end_at, %(source)s, session_date, %(now)s, open, high,
       low, close, volume, trade_count, vwap
FROM stage_minute_bars
ORDER BY instrument_id, bar_end_at, row_no DESC
ON CONFLICT (instrument_id, source, bar_end_at) DO UPDATE
SET known_at = excluded.known_at, open = excluded.open, high = excluded.high, low = excluded.low,
    close = excluded.close, volume = excluded.volume, trade_count = excluded.trade_count, vwap = excluded.vwap
WHERE (m.open, m.high, m.low, m.close, m.volume, m.trade_count, m.vwap) IS DISTINCT FROM
      (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.trade_count, excluded.vwap)

-- name: append_amendment
INSERT INTO trade_amendments (instrument_id, source, exchange, trade_id, amended_at, kind, new_trade_id, price, size)
VALUES (%(instrument_id)s, %(source)s, %(exchange)s, %(trade_id)s, %(amended_at)s, %(kind)s, %(new_trade_id)s,
        %(price)s, %(size)s)
ON CONFLICT DO NOTHING

-- name: try_lock
SELECT pg_try_advisory_lock(hashtextextended('tradecore:stream:' || %(source)s, 7))

-- name: cursor
SELECT instrument_ids, cursor_at FROM stream_cursors WHERE source = %(source)s

-- name: set_cursor
INSERT INTO stream_cursors (source, instrument_ids, cursor_at) VALUES (%(source)s, %(ids)s, %(at)s)
ON CONFLICT (source) DO UPDATE SET instrument_ids = excluded.instrument_ids, cursor_at = excluded.cursor_at

-- name: advance_cursor
UPDATE stream_cursors SET cursor_at = %(at)s WHERE source = %(source)s AND cursor_at < %(at)s

-- name: open_hole
INSERT INTO stream_holes (source, first_at, until_at, instrument_ids, noticed_at)
VALUES (%(source)s, %(first)s, %(until)s, %(ids)s, %(now)s)
ON CONFLICT DO NOTHING

-- name: holes
SELECT first_at, until_at, instrument_ids, rows_filled FROM stream_holes
WHERE source = %(source)s AND filled_at IS NULL
ORDER BY first_at, until_at

-- name: count_filled
UPDATE stream_holes SET rows_filled = rows_filled + %(rows)s
WHERE source = %(source)s AND first_at = %(first)s AND until_at = %(until)s

-- name: close_hole
UPDATE stream_holes SET filled_at = %(now)s
WHERE source = %(source)s AND first_at = %(first)s AND until_at = %(until)s

-- name: beat
INSERT INTO stream_heartbeats (source, state, state_at, host, pid, started_at, beat_at, messages, messages_per_s, lag_p50_ms,
                               lag_p99_ms, rejects, cuts, last_error)
VALUES (%(source)s, %(state)s, %(state_at)s, %(host)s, %(pid)s, %(started_at)s, %(now)s, %(messages)s, %(messages_per_s)s,
        %(lag_p50_ms)s, %(lag_p99_ms)s, %(rejects)s, %(cuts)s, %(last_error)s)
ON CONFLICT (source) DO UPDATE
SET state = excluded.state, state_at = excluded.state_at, host = excluded.host, pid = excluded.pid, started_at = excluded.started_at,
    beat_at = excluded.beat_at, messages = excluded.messages, messages_per_s = excluded.messages_per_s,
    lag_p50_ms = excluded.lag_p50_ms, lag_p99_ms = excluded.lag_p99_ms, rejects = excluded.rejects,
    cuts = excluded.cuts, last_error = excluded.last_error

-- name: heartbeats
SELECT h.source, h.state, h.state_at, h.host, h.pid, h.started_at, h.beat_at, h.messages, h.messages_per_s, h.lag_p50_ms,
       h.lag_p99_ms, h.rejects, h.cuts, h.last_error, c.cursor_at,
       (SELECT count(*) FROM stream_holes o WHERE o.source = h.source AND o.filled_at IS NULL) AS open_holes
FROM stream_heartbeats h
LEFT JOIN stream_cursors c USING (source)
ORDER BY h.source

-- name: publish
SELECT pg_notify('tradecore_market', %(payload)s)
