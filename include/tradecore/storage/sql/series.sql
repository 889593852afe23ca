-- name: read
-- One row a series and instrument: value_at, known_at and value of each statement in the order in which they were known.
SELECT series, instrument_id,
       string_agg(timestamptz_send(value_at) || timestamptz_send(known_at) || float8send(value), ''::bytea
                  ORDER BY known_at, recorded_at)
FROM series_values
WHERE series = ANY(%(names)s) AND (instrument_id = ANY(%(instruments)s) OR instrument_id = 0)
  AND known_at <= %(until)s AND recorded_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
GROUP BY series, instrument_id

-- name: stamp
-- Later than every time as of which something was read, of whatever source; and what is read from now on is later.
SELECT greatest(%(now)s::timestamptz, max(newest_at) + INTERVAL '1 microsecond') FROM data_clock

-- name: create_stage
CREATE TEMP TABLE IF NOT EXISTS stage_series (
    instrument_id integer, value_at timestamptz, known_at timestamptz, value double precision) ON COMMIT DELETE ROWS

-- name: append
-- A statement that says what the newest one known by then said of the same time is nothing new.
INSERT INTO series_values (series, instrument_id, value_at, known_at, recorded_at, value, source)
SELECT %(series)s, n.instrument_id, n.value_at, n.known_at, %(at)s, n.value, %(source)s
FROM (SELECT DISTINCT ON (instrument_id, value_at, known_at) * FROM stage_series
      ORDER BY instrument_id, value_at, known_at) n
WHERE NOT EXISTS (
    SELECT 1 FROM (
        SELECT o.value FROM series_values o
        WHERE o.series = %(series)s AND o.instrument_id = n.instrument_id AND o.value_at = n.value_at
          AND o.known_at <= n.known_at
        ORDER BY o.known_at DESC, o.recorded_at DESC LIMIT 1) newest
    WHERE newest.value = n.value)

-- name: list
SELECT series, count(*), count(DISTINCT instrument_id), min(value_at), max(value_at), max(known_at),
       string_agg(DISTINCT source, ', ')
FROM series_values GROUP BY series ORDER BY series
