-- name: decisions
-- The decisions in force on some bars of a source.
SELECT DISTINCT ON (instrument_id, bar_end_at)
       instrument_id, bar_end_at, session_date, second, reason, chosen, difference_frac, first_known_at, first_open,
       first_high, first_low, first_close, first_volume, second_known_at, second_assumed, second_open, second_high,
       second_low, second_close, second_volume, decided_at
FROM bar_arbitrations
WHERE source = %(source)s AND timeframe = %(timeframe)s AND instrument_id = ANY(%(instruments)s)
  AND bar_end_at >= %(first)s AND bar_end_at <= %(last)s
ORDER BY instrument_id, bar_end_at, decided_at DESC

-- name: add_decision
-- A decision that says nothing new is not written again.
INSERT INTO bar_arbitrations (instrument_id, timeframe, bar_end_at, source, decided_at, session_date, second, reason,
    chosen, difference_frac, first_known_at, first_open, first_high, first_low, first_close, first_volume,
    second_known_at, second_assumed, second_open, second_high, second_low, second_close, second_volume)
VALUES (%(instrument)s, %(timeframe)s, %(bar_end)s, %(source)s, %(now)s, %(session)s, %(second)s, %(reason)s,
    %(chosen)s, %(difference)s, %(first_known_at)s, %(first_open)s, %(first_high)s, %(first_low)s, %(first_close)s,
    %(first_volume)s, %(second_known_at)s, %(second_assumed)s, %(second_open)s, %(second_high)s, %(second_low)s,
    %(second_close)s, %(second_volume)s)
ON CONFLICT DO NOTHING

-- name: given_by
-- The actions of a source that somebody else told of.
UPDATE corporate_actions SET given_by = %(second)s
WHERE source = %(source)s AND known_at >= %(since)s AND given_by = ''
  AND (instrument_id, ex_date, kind) IN (
      SELECT * FROM unnest(%(instruments)s::integer[], %(ex_dates)s::date[], %(kinds)s::text[]))

-- name: decision_log
SELECT a.decided_at, a.session_date, a.bar_end_at, s.symbol, a.reason, a.chosen, a.second, a.difference_frac,
       a.first_close, a.second_close
FROM bar_arbitrations a
JOIN LATERAL (SELECT symbol FROM instrument_symbols i WHERE i.instrument_id = a.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE a.source = %(source)s AND a.timeframe = %(timeframe)s AND a.session_date BETWEEN %(first)s AND %(last)s
ORDER BY a.session_date, s.symbol, a.bar_end_at, a.decided_at

-- name: bars_there
-- Which bars of some instruments are selected, and which of them from what the vendor said last.
SELECT b.instrument_id, b.bar_end_at
FROM bars b
WHERE b.source = %(source)s AND b.timeframe = %(timeframe)s AND b.instrument_id = ANY(%(instruments)s)
  AND b.bar_end_at >= %(first)s AND b.bar_end_at <= %(last)s

-- name: rejected_bars
-- Bars whose newest statement failed the suite while an older one, or none, is selected.
SELECT DISTINCT v.instrument_id, v.bar_end_at
FROM (
    SELECT instrument_id, bar_end_at, max(known_at) AS known_at FROM bar_versions
    WHERE source = %(source)s AND timeframe = %(timeframe)s AND instrument_id = ANY(%(instruments)s)
      AND bar_end_at >= %(first)s AND bar_end_at <= %(last)s
    GROUP BY instrument_id, bar_end_at) v
LEFT JOIN bars b ON b.instrument_id = v.instrument_id AND b.timeframe = %(timeframe)s AND b.source = %(source)s
                AND b.bar_end_at = v.bar_end_at
WHERE b.known_at IS DISTINCT FROM v.known_at
  AND NOT EXISTS (
      SELECT 1 FROM bar_arbitrations a
      WHERE a.instrument_id = v.instrument_id AND a.timeframe = %(timeframe)s AND a.source = %(source)s
        AND a.bar_end_at = v.bar_end_at AND a.chosen = 'second' AND a.second_known_at = b.known_at)
