-- name: unfinished
-- The newest load of the same range that has not ended, to go on with.
SELECT load_id FROM loads
WHERE source = %(source)s AND timeframe = %(timeframe)s AND first_session = %(first)s AND last_session = %(last)s
  AND finished_at IS NULL
ORDER BY begun_at DESC LIMIT 1

-- name: begin
INSERT INTO loads (load_id, source, timeframe, first_session, last_session, symbols, parts, begun_at)
VALUES (%(load)s, %(source)s, %(timeframe)s, %(first)s, %(last)s, %(symbols)s, %(parts)s, %(now)s)
ON CONFLICT (load_id) DO NOTHING

-- name: add_part
INSERT INTO load_parts (load_id, part_no, symbols, first_session, last_session)
VALUES (%(load)s, %(part)s, %(symbols)s, %(first)s, %(last)s)
ON CONFLICT (load_id, part_no) DO NOTHING

-- name: parts
SELECT part_no, symbols, first_session, last_session, done_at IS NOT NULL FROM load_parts
WHERE load_id = %(load)s ORDER BY part_no

-- name: part_done
UPDATE load_parts SET done_at = %(now)s, bars = %(bars)s, failures = %(failures)s
WHERE load_id = %(load)s AND part_no = %(part)s

-- name: finish
UPDATE loads SET finished_at = %(now)s
WHERE load_id = %(load)s AND finished_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM load_parts WHERE load_id = %(load)s AND done_at IS NULL)
RETURNING 1

-- name: range_of
SELECT first_session, last_session FROM loads WHERE load_id = %(load)s

-- name: progress
SELECT l.load_id, l.source, l.timeframe, l.first_session, l.last_session, l.symbols, l.parts,
       count(p.done_at), coalesce(sum(p.bars), 0), coalesce(sum(cardinality(p.failures)), 0), l.begun_at, l.finished_at,
       max(p.done_at)
FROM loads l LEFT JOIN load_parts p USING (load_id)
WHERE %(load)s::text IS NULL OR l.load_id = %(load)s
GROUP BY l.load_id
ORDER BY l.begun_at DESC LIMIT %(most)s
