-- Tickers change, instruments stay. A name means the instrument that it was given to last.

-- name: renamed
SELECT o.symbol, n.symbol
FROM (SELECT DISTINCT ON (symbol) symbol, instrument_id FROM instrument_symbols WHERE symbol = ANY(%(symbols)s)
      ORDER BY symbol, valid_from DESC) o
JOIN LATERAL (SELECT symbol FROM instrument_symbols s WHERE s.instrument_id = o.instrument_id
              ORDER BY valid_from DESC LIMIT 1) n ON n.symbol <> o.symbol

-- name: dated_names
-- Every name that the instruments of these (newest) names had within a range, the oldest first.
SELECT n.symbol, s.symbol, s.valid_to
FROM (SELECT DISTINCT ON (instrument_id) instrument_id, symbol FROM instrument_symbols
      ORDER BY instrument_id, valid_from DESC) n
JOIN instrument_symbols s USING (instrument_id)
WHERE n.symbol = ANY(%(symbols)s) AND s.valid_from <= %(last)s AND (s.valid_to IS NULL OR s.valid_to > %(first)s)
ORDER BY n.symbol, s.valid_from

-- name: taken
-- Whether a name belongs to another instrument on or after a day.
SELECT 1 FROM instrument_symbols
WHERE symbol = %(symbol)s AND instrument_id <> %(instrument)s AND (valid_to IS NULL OR valid_to > %(day)s)

-- name: end_name
UPDATE instrument_symbols SET valid_to = %(day)s WHERE instrument_id = %(instrument)s AND valid_to IS NULL
AND symbol <> %(symbol)s AND valid_from < %(day)s
RETURNING symbol

-- name: begin_name
INSERT INTO instrument_symbols (symbol, valid_from, instrument_id) VALUES (%(symbol)s, %(day)s, %(instrument)s)
ON CONFLICT DO NOTHING

-- name: drop_name
DELETE FROM instrument_symbols WHERE instrument_id = %(instrument)s AND symbol = %(symbol)s AND valid_from = %(day)s

-- name: reopen_name
UPDATE instrument_symbols SET valid_to = NULL WHERE instrument_id = %(instrument)s AND valid_to = %(day)s

-- name: instruments_of
SELECT DISTINCT ON (symbol) symbol, instrument_id FROM instrument_symbols WHERE symbol = ANY(%(symbols)s)
ORDER BY symbol, valid_from DESC
