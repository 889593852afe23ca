-- What the vendors said, as known at a time: the newest statement of each bar, of copies the first.

-- name: raw
SELECT instrument_id, string_agg(timestamptz_send(bar_end_at) || float8send(open) || float8send(high)
    || float8send(low) || float8send(close) || float8send(volume), ''::bytea)
FROM (SELECT DISTINCT ON (instrument_id, bar_end_at) * FROM bar_versions
      WHERE timeframe = %(timeframe)s AND source = %(source)s AND instrument_id = ANY(%(instruments)s)
        AND bar_end_at BETWEEN %(first)s AND %(last)s AND known_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
      ORDER BY instrument_id, bar_end_at, known_at DESC, dup_no) newest
GROUP BY instrument_id

-- name: bounds
SELECT min(session_date), max(session_date) FROM bars
WHERE timeframe = %(timeframe)s AND source = %(source)s AND instrument_id = ANY(%(instruments)s)

-- name: first_bars
SELECT instrument_id, min(session_date) FROM bars
WHERE timeframe = %(timeframe)s AND source = %(source)s AND instrument_id = ANY(%(instruments)s)
GROUP BY instrument_id

-- name: disagreements
-- Bars of which another vendor gives another close.
SELECT a.instrument_id, a.session_date, a.bar_end_at, a.close, o.source, o.close
FROM (SELECT DISTINCT ON (instrument_id, bar_end_at) * FROM bar_versions
      WHERE timeframe = %(timeframe)s AND source = %(source)s AND instrument_id = ANY(%(instruments)s)
        AND bar_end_at BETWEEN %(first)s AND %(last)s AND known_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
      ORDER BY instrument_id, bar_end_at, known_at DESC, dup_no) a
JOIN (SELECT DISTINCT ON (source, instrument_id, bar_end_at) * FROM bar_versions
      WHERE timeframe = %(timeframe)s AND source <> %(source)s AND instrument_id = ANY(%(instruments)s)
        AND bar_end_at BETWEEN %(first)s AND %(last)s AND known_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
      ORDER BY source, instrument_id, bar_end_at, known_at DESC, dup_no) o USING (instrument_id, bar_end_at)
WHERE NOT abs(o.close / nullif(a.close, 0) - 1) <= %(tolerance)s
ORDER BY a.bar_end_at, a.instrument_id, o.source

-- name: kept_out
SELECT symbol, session_date, string_agg(DISTINCT expectation, ', ' ORDER BY expectation), count(DISTINCT record)
FROM quarantined_bars
WHERE timeframe = %(timeframe)s AND source = %(source)s AND symbol = ANY(%(symbols)s)
  AND session_date BETWEEN %(first_day)s AND %(last_day)s AND found_at <= coalesce(%(now)s::timestamptz, 'infinity')
GROUP BY symbol, session_date
