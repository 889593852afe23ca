-- name: instruments
SELECT s.symbol, i.instrument_id, i.tick_e4, i.qty_step_e6
FROM instrument_symbols s JOIN instruments i USING (instrument_id)
WHERE i.calendar = %(calendar)s AND s.valid_from <= %(day)s AND (s.valid_to IS NULL OR s.valid_to > %(day)s)
ORDER BY i.instrument_id

-- name: universe
SELECT DISTINCT ON (m.instrument_id) m.instrument_id, s.symbol, i.tick_e4, i.qty_step_e6, m.member_from, m.member_to
FROM universe_members m JOIN instruments i USING (instrument_id) JOIN instrument_symbols s USING (instrument_id)
WHERE m.universe = %(universe)s
ORDER BY m.instrument_id, s.valid_from DESC

-- name: add_instrument
INSERT INTO instruments (calendar, currency, tick_e4, qty_step_e6) VALUES (%s, %s, %s, %s) RETURNING instrument_id

-- name: add_symbol
INSERT INTO instrument_symbols (symbol, valid_from, instrument_id) VALUES (%s, %s, %s)

-- name: add_member
INSERT INTO universe_members (universe, instrument_id, member_from, member_to) VALUES (%s, %s, %s, %s)
ON CONFLICT (universe, instrument_id, member_from) DO UPDATE SET member_to = excluded.member_to
WHERE universe_members.member_to IS DISTINCT FROM excluded.member_to

-- name: drop_other_members
DELETE FROM universe_members WHERE universe = %s AND NOT (instrument_id = ANY(%s))

-- name: create_stage
CREATE TEMP TABLE IF NOT EXISTS stage_versions (
    instrument_id integer, bar_end_at timestamptz, dup_no smallint, known_at timestamptz, known_at_assumed boolean,
    session_date date, open double precision, high double precision, low double precision, close double precision,
    volume double precision) ON COMMIT DELETE ROWS

-- name: none_known
-- Whether nothing at all is known of what a load covers: it then needs no comparison.
SELECT NOT EXISTS (
    SELECT 1 FROM bar_versions
    WHERE instrument_id = ANY(%(instruments)s) AND timeframe = %(timeframe)s AND bar_end_at >= %(first)s
      AND bar_end_at <= %(last)s AND source = %(source)s)

-- name: roomy
-- A bulk load joins in memory, not through files.
SELECT set_config('work_mem', '64MB', true)

-- name: append_versions
-- The copies of one bar are one statement of the vendor: where one of them or their number differs from the newest
-- statement, all are appended anew. What replaces something was learned now, and after what it replaces, whatever a
-- bulk load assumes. Which bars differ is found with whole-set joins, which cost a reload little; what replaces what
-- then concerns few.
WITH newest AS MATERIALIZED (
    SELECT v.instrument_id, v.bar_end_at, v.dup_no, v.open, v.high, v.low, v.close, v.volume
    FROM stage_versions s
    JOIN bar_versions v ON v.instrument_id = s.instrument_id AND v.bar_end_at = s.bar_end_at
    WHERE s.dup_no = 0 AND v.timeframe = %(timeframe)s AND v.source = %(source)s
      AND v.bar_end_at >= %(first)s AND v.bar_end_at <= %(last)s
      AND NOT EXISTS (
          SELECT 1 FROM bar_versions w
          WHERE w.instrument_id = v.instrument_id AND w.bar_end_at = v.bar_end_at AND w.timeframe = %(timeframe)s
            AND w.source = %(source)s AND w.known_at > v.known_at AND w.bar_end_at >= %(first)s
            AND w.bar_end_at <= %(last)s)),
differs AS (
    SELECT n.instrument_id, n.bar_end_at
    FROM stage_versions n LEFT JOIN newest v USING (instrument_id, bar_end_at, dup_no)
    WHERE v.instrument_id IS NULL
       OR (v.open, v.high, v.low, v.close, v.volume) IS DISTINCT FROM (n.open, n.high, n.low, n.close, n.volume)
    UNION
    SELECT v.instrument_id, v.bar_end_at
    FROM newest v
    WHERE v.dup_no > 0 AND NOT EXISTS (
        SELECT 1 FROM stage_versions m
        WHERE m.instrument_id = v.instrument_id AND m.bar_end_at = v.bar_end_at AND m.dup_no = v.dup_no)),
added AS (
    INSERT INTO bar_versions (instrument_id, timeframe, bar_end_at, source, known_at, dup_no, known_at_assumed,
                              session_date, open, high, low, close, volume)
    SELECT n.instrument_id, %(timeframe)s, n.bar_end_at, %(source)s,
           CASE WHEN old.known_at IS NULL THEN n.known_at
                ELSE greatest(n.known_at, %(now)s, old.known_at + INTERVAL '1 microsecond') END,
           n.dup_no, n.known_at_assumed AND old.known_at IS NULL,
           n.session_date, n.open, n.high, n.low, n.close, n.volume
    FROM differs d
    JOIN stage_versions n USING (instrument_id, bar_end_at)
    LEFT JOIN LATERAL (
        SELECT o.known_at FROM bar_versions o
        WHERE o.instrument_id = d.instrument_id AND o.timeframe = %(timeframe)s AND o.bar_end_at = d.bar_end_at
          AND o.source = %(source)s
        ORDER BY o.known_at DESC LIMIT 1) old ON true
    RETURNING session_date)
SELECT DISTINCT session_date FROM added

-- name: latest_versions
SELECT x.instrument_id, x.session_date, x.bar_end_at, x.dup_no, x.known_at, x.known_at_assumed, x.open, x.high, x.low,
       x.close, x.volume
FROM (
    SELECT v.*, max(v.known_at) OVER (PARTITION BY v.instrument_id, v.bar_end_at) AS newest_known_at
    FROM bar_versions v
    WHERE v.timeframe = %(timeframe)s AND v.source = %(source)s AND v.instrument_id = ANY(%(instruments)s)
      AND v.bar_end_at = ANY(%(bar_ends)s)) x
WHERE x.known_at = x.newest_known_at
ORDER BY x.instrument_id, x.bar_end_at, x.dup_no

-- name: create_bar_stage
CREATE TEMP TABLE IF NOT EXISTS stage_bars (
    instrument_id integer, bar_end_at timestamptz, session_date date, known_at timestamptz, open_e4 bigint,
    high_e4 bigint, low_e4 bigint, close_e4 bigint, volume bigint, adj_factor double precision,
    selected_at timestamptz) ON COMMIT DELETE ROWS

-- name: keep_replaced
-- What the upsert is about to change, as it was until then.
INSERT INTO bars_past
SELECT b.instrument_id, b.timeframe, b.bar_end_at, b.source, %(now)s, coalesce(b.selected_at, b.known_at),
       b.session_date, b.known_at, b.open_e4, b.high_e4, b.low_e4, b.close_e4, b.volume, b.adj_factor
FROM stage_bars s
JOIN bars b ON b.instrument_id = s.instrument_id AND b.timeframe = %(timeframe)s AND b.source = %(source)s
           AND b.bar_end_at = s.bar_end_at
WHERE (b.known_at, b.open_e4, b.high_e4, b.low_e4, b.close_e4, b.volume, b.adj_factor)
      IS DISTINCT FROM (s.known_at, s.open_e4, s.high_e4, s.low_e4, s.close_e4, s.volume, s.adj_factor)

-- name: upsert_bars
-- A bar that was there before is known otherwise from now on; a new one since its version says so.
INSERT INTO bars (instrument_id, timeframe, bar_end_at, source, session_date, known_at, open_e4, high_e4, low_e4,
                  close_e4, volume, adj_factor, selected_at)
SELECT instrument_id, %(timeframe)s, bar_end_at, %(source)s, session_date, known_at, open_e4, high_e4, low_e4,
       close_e4, volume, adj_factor, selected_at
FROM stage_bars
ON CONFLICT (instrument_id, timeframe, bar_end_at, source) DO UPDATE
SET session_date = excluded.session_date, known_at = excluded.known_at, open_e4 = excluded.open_e4,
    high_e4 = excluded.high_e4, low_e4 = excluded.low_e4, close_e4 = excluded.close_e4, volume = excluded.volume,
    adj_factor = excluded.adj_factor, selected_at = %(now)s
WHERE (bars.known_at, bars.open_e4, bars.high_e4, bars.low_e4, bars.close_e4, bars.volume, bars.adj_factor)
      IS DISTINCT FROM (excluded.known_at, excluded.open_e4, excluded.high_e4, excluded.low_e4, excluded.close_e4,
                        excluded.volume, excluded.adj_factor)

-- name: delete_bars
-- The statement that fails is the one that was selected. A bar of an earlier one is left alone.
WITH gone AS (
    DELETE FROM bars b
    USING unnest(%(instruments)s::integer[], %(bar_ends)s::timestamptz[], %(known)s::timestamptz[])
          AS f (instrument_id, bar_end_at, known_at)
    WHERE b.timeframe = %(timeframe)s AND b.source = %(source)s AND b.instrument_id = f.instrument_id
      AND b.bar_end_at = f.bar_end_at AND b.known_at >= f.known_at
    RETURNING b.*)
INSERT INTO bars_past
SELECT instrument_id, timeframe, bar_end_at, source, %(now)s, coalesce(selected_at, known_at), session_date, known_at,
       open_e4, high_e4, low_e4, close_e4, volume, adj_factor
FROM gone

-- name: earlier_bars
SELECT DISTINCT b.instrument_id, b.bar_end_at
FROM bars b
JOIN unnest(%(instruments)s::integer[], %(bar_ends)s::timestamptz[], %(known)s::timestamptz[])
     AS f (instrument_id, bar_end_at, known_at) ON b.instrument_id = f.instrument_id AND b.bar_end_at = f.bar_end_at
WHERE b.timeframe = %(timeframe)s AND b.source = %(source)s AND b.known_at < f.known_at

-- name: factors_before
SELECT w.instrument_id, b.adj_factor, b.session_date
FROM unnest(%(instruments)s::integer[], %(since)s::timestamptz[]) AS w (instrument_id, since)
CROSS JOIN LATERAL (
    SELECT adj_factor, session_date FROM bars
    WHERE instrument_id = w.instrument_id AND timeframe = %(timeframe)s AND source = %(source)s
      AND bar_end_at < w.since
    ORDER BY bar_end_at DESC LIMIT 1) b

-- name: bars_from
SELECT w.instrument_id, b.session_date, b.bar_end_at, b.close_e4, b.adj_factor
FROM unnest(%(instruments)s::integer[], %(since)s::timestamptz[]) AS w (instrument_id, since)
CROSS JOIN LATERAL (
    SELECT session_date, bar_end_at, close_e4, adj_factor FROM bars
    WHERE instrument_id = w.instrument_id AND timeframe = %(timeframe)s AND source = %(source)s
      AND bar_end_at >= w.since
    ORDER BY bar_end_at) b

-- name: keep_refactored
INSERT INTO bars_past
SELECT b.instrument_id, b.timeframe, b.bar_end_at, b.source, %(now)s, coalesce(b.selected_at, b.known_at),
       b.session_date, b.known_at, b.open_e4, b.high_e4, b.low_e4, b.close_e4, b.volume, b.adj_factor
FROM bars b
JOIN unnest(%(instruments)s::integer[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[], %(factors)s::float8[])
     AS r (instrument_id, first_at, last_at, adj_factor) ON b.instrument_id = r.instrument_id
WHERE b.timeframe = %(timeframe)s AND b.source = %(source)s AND b.bar_end_at BETWEEN r.first_at AND r.last_at
  AND b.adj_factor IS DISTINCT FROM r.adj_factor

-- name: set_factors
UPDATE bars SET adj_factor = r.adj_factor, selected_at = %(now)s
FROM unnest(%(instruments)s::integer[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[], %(factors)s::float8[])
     AS r (instrument_id, first_at, last_at, adj_factor)
WHERE bars.instrument_id = r.instrument_id AND bars.timeframe = %(timeframe)s AND bars.source = %(source)s
  AND bars.bar_end_at BETWEEN r.first_at AND r.last_at AND bars.adj_factor IS DISTINCT FROM r.adj_factor

-- name: read_panel
-- One row an instrument, its bars packed as in COPY's binary format: a row a bar costs the client four times as much.
SELECT instrument_id, string_agg(timestamptz_send(bar_end_at) || int8send(open_e4) || int8send(high_e4)
    || int8send(low_e4) || int8send(close_e4) || int8send(volume) || float8send(adj_factor), ''::bytea)
FROM bars
WHERE timeframe = %(timeframe)s AND source = %(source)s AND instrument_id = ANY(%(instruments)s)
  AND bar_end_at >= %(first)s AND bar_end_at <= %(last)s
GROUP BY instrument_id

-- name: several_cores
-- A bulk read packs its rows on two cores beside the first, whatever the server does by default.
SELECT set_config('max_parallel_workers_per_gather', '2', true)

-- name: read_panel_bulk
-- The same for most of the names there are: looking each row's up in a list of 500 costs as much as all the rest.
SELECT instrument_id, string_agg(timestamptz_send(bar_end_at) || int8send(open_e4) || int8send(high_e4)
    || int8send(low_e4) || int8send(close_e4) || int8send(volume) || float8send(adj_factor), ''::bytea)
FROM bars
WHERE timeframe = %(timeframe)s AND source = %(source)s AND instrument_id BETWEEN %(lowest)s AND %(highest)s
  AND bar_end_at >= %(first)s AND bar_end_at <= %(last)s
GROUP BY instrument_id

-- name: read_panel_as_of
-- The same, as the selection was at a time.
SELECT instrument_id, string_agg(timestamptz_send(bar_end_at) || int8send(open_e4) || int8send(high_e4)
    || int8send(low_e4) || int8send(close_e4) || int8send(volume) || float8send(adj_factor), ''::bytea)
FROM (
    SELECT instrument_id, bar_end_at, open_e4, high_e4, low_e4, close_e4, volume, adj_factor
    FROM bars
    WHERE timeframe = %(timeframe)s AND source = %(source)s AND instrument_id = ANY(%(instruments)s)
      AND bar_end_at >= %(first)s AND bar_end_at <= %(last)s AND coalesce(selected_at, known_at) <= %(as_of)s
    UNION ALL
    SELECT instrument_id, bar_end_at, open_e4, high_e4, low_e4, close_e4, volume, adj_factor
    FROM bars_past
    WHERE timeframe = %(timeframe)s AND source = %(source)s AND instrument_id = ANY(%(instruments)s)
      AND bar_end_at >= %(first)s AND bar_end_at <= %(last)s AND selected_at <= %(as_of)s
      AND replaced_at > %(as_of)s) known
GROUP BY instrument_id

-- name: bars_as_of
-- One session's bars as the selection was at a time, with where they come from.
SELECT k.instrument_id, k.bar_end_at, k.open_e4, k.high_e4, k.low_e4, k.close_e4, k.volume, k.adj_factor, k.source,
       k.known_at
FROM (
    SELECT instrument_id, bar_end_at, open_e4, high_e4, low_e4, close_e4, volume, adj_factor, source, known_at
    FROM bars WHERE timeframe = %(timeframe)s AND source = %(source)s AND session_date = %(session)s
      AND coalesce(selected_at, known_at) <= %(as_of)s
    UNION ALL
    SELECT instrument_id, bar_end_at, open_e4, high_e4, low_e4, close_e4, volume, adj_factor, source, known_at
    FROM bars_past WHERE timeframe = %(timeframe)s AND source = %(source)s AND session_date = %(session)s
      AND selected_at <= %(as_of)s AND replaced_at > %(as_of)s) k
ORDER BY k.instrument_id, k.bar_end_at

-- name: lock_data
-- One writer of a source's data at a time: the same lock as that of the universe.
SELECT pg_advisory_xact_lock(7240002)

-- name: next_stamp
SELECT greatest(%(now)s::timestamptz, max(newest_at) + INTERVAL '1 microsecond')
FROM data_clock WHERE source IN (%(source)s, 'series_values')

-- name: set_clock
INSERT INTO data_clock (source, newest_at) VALUES (%(source)s, %(at)s)
ON CONFLICT (source) DO UPDATE SET newest_at = excluded.newest_at WHERE data_clock.newest_at < excluded.newest_at

-- name: decided_until
SELECT max(bar_end_at) FROM manifests WHERE source = %(source)s

-- name: append_action
INSERT INTO corporate_actions (instrument_id, ex_date, kind, source, known_at, known_at_assumed, ratio_num, ratio_den,
                               dividend_e6, pay_date, new_symbol)
SELECT %(instrument)s, %(ex_date)s, %(kind)s, %(source)s,
       CASE WHEN old.known_at IS NULL THEN %(known_at)s
            ELSE greatest(%(known_at)s, %(now)s, old.known_at + INTERVAL '1 microsecond') END,
       %(assumed)s AND old.known_at IS NULL, %(num)s, %(den)s, %(dividend)s, %(pay_date)s, %(new_symbol)s
FROM (SELECT 1) one
LEFT JOIN LATERAL (
    SELECT * FROM corporate_actions a
    WHERE a.instrument_id = %(instrument)s AND a.ex_date = %(ex_date)s AND a.kind = %(kind)s AND a.source = %(source)s
    ORDER BY known_at DESC LIMIT 1) old ON true
WHERE old.known_at IS NULL OR old.withdrawn
   OR (old.ratio_num, old.ratio_den, old.dividend_e6, old.pay_date, old.new_symbol) IS DISTINCT FROM
      (%(num)s::integer, %(den)s::integer, %(dividend)s::bigint, %(pay_date)s::date, %(new_symbol)s::text)
RETURNING 1

-- name: withdraw_actions
INSERT INTO corporate_actions (instrument_id, ex_date, kind, source, known_at, known_at_assumed, ratio_num, ratio_den,
                               dividend_e6, pay_date, new_symbol, withdrawn)
SELECT instrument_id, ex_date, kind, source, greatest(%(now)s, known_at + INTERVAL '1 microsecond'), false, ratio_num,
       ratio_den, dividend_e6, pay_date, new_symbol, true
FROM (SELECT DISTINCT ON (instrument_id, ex_date, kind) * FROM corporate_actions
      WHERE source = %(source)s AND instrument_id = ANY(%(instruments)s) AND ex_date BETWEEN %(first)s AND %(last)s
      ORDER BY instrument_id, ex_date, kind, known_at DESC) newest
WHERE NOT withdrawn AND given_by = '' AND (instrument_id, ex_date, kind) NOT IN (
    SELECT * FROM unnest(%(kept_instruments)s::integer[], %(kept_dates)s::date[], %(kept_kinds)s::text[]))
RETURNING instrument_id, ex_date, kind, ratio_num, ratio_den, dividend_e6, pay_date, known_at, new_symbol

-- name: actions
-- In force: the newest version, where it does not say that the action is withdrawn.
SELECT instrument_id, ex_date, kind, ratio_num, ratio_den, dividend_e6, pay_date, known_at, new_symbol
FROM (SELECT DISTINCT ON (instrument_id, ex_date, kind) * FROM corporate_actions
      WHERE source = %(source)s AND instrument_id = ANY(%(instruments)s) AND ex_date > %(after)s
        AND ex_date <= %(until)s AND known_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
        AND kind = coalesce(%(kind)s::text, kind)
      ORDER BY instrument_id, ex_date, kind, known_at DESC) newest
WHERE NOT withdrawn

-- name: quality_known
SELECT content_hash, gate_open, gate_reason, coverage_frac, rows_checked, rows_failed, members_due, members_seen,
       rows_warned, docs_path
FROM quality_results
WHERE source = %(source)s AND timeframe = %(timeframe)s AND bar_end_at = %(bar_end)s AND universe = %(universe)s
  AND suite_version = %(suite)s
ORDER BY checked_at DESC LIMIT 1

-- name: add_quality
INSERT INTO quality_results (source, timeframe, bar_end_at, content_hash, suite_version, session_date, universe,
    rows_checked, rows_failed, members_due, members_seen, coverage_frac, gate_open, gate_reason, checked_at,
    rows_warned, docs_path)
VALUES (%(source)s, %(timeframe)s, %(bar_end)s, %(hash)s, %(suite)s, %(session)s, %(universe)s, %(checked)s,
    %(failed)s, %(due)s, %(seen)s, %(coverage)s, %(open)s, %(reason)s, %(now)s, %(warned)s, %(docs)s)
ON CONFLICT (source, timeframe, bar_end_at, universe, content_hash, suite_version) DO UPDATE
SET checked_at = excluded.checked_at, docs_path = coalesce(nullif(excluded.docs_path, ''), quality_results.docs_path)
WHERE quality_results.checked_at < excluded.checked_at

-- name: suite_known
SELECT 1 FROM quality_suites WHERE suite_version = %s

-- name: add_suite
INSERT INTO quality_suites (suite_version, content, first_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING

-- name: add_finding
INSERT INTO quality_findings (source, timeframe, bar_end_at, symbol, dup_no, expectation, suite_version, session_date,
                              severity, message, found_at)
VALUES (%(source)s, %(timeframe)s, %(bar_end)s, %(symbol)s, %(dup_no)s, %(expectation)s, %(suite)s, %(session)s,
        %(severity)s, %(message)s, %(now)s)
ON CONFLICT DO NOTHING

-- name: bars_by_source
-- By the vendor that gave the bar: the second one's count where a decision in force took them.
SELECT coalesce(a.second, b.source), count(*)
FROM bars b
LEFT JOIN (SELECT DISTINCT ON (instrument_id, bar_end_at) instrument_id, bar_end_at, chosen, second, second_known_at
           FROM bar_arbitrations
           WHERE timeframe = %(timeframe)s AND source = %(source)s AND instrument_id = ANY(%(instruments)s)
             AND bar_end_at BETWEEN %(first)s AND %(last)s
           ORDER BY instrument_id, bar_end_at, decided_at DESC) a
    ON a.instrument_id = b.instrument_id AND a.bar_end_at = b.bar_end_at AND a.chosen = 'second'
   AND a.second_known_at = b.known_at
WHERE b.timeframe = %(timeframe)s AND b.source = %(source)s AND b.instrument_id = ANY(%(instruments)s)
  AND b.bar_end_at BETWEEN %(first)s AND %(last)s
GROUP BY 1 ORDER BY 1

-- name: add_quarantine
INSERT INTO quarantined_bars (source, timeframe, symbol, session_date, record, expectation, message, found_at)
VALUES (%(source)s, %(timeframe)s, %(symbol)s, %(session)s, %(record)s, %(expectation)s, %(message)s, %(now)s)
ON CONFLICT DO NOTHING

-- name: add_manifest
INSERT INTO manifests (book, bar_end_at, session_date, as_of, bars_hash, bar_count, action_count, source, window_hash,
                       window_bars, sources, manifest_hash)
VALUES (%(book)s, %(bar_end)s, %(session)s, %(as_of)s, %(hash)s, %(bars)s, %(actions)s, %(source)s, %(window_hash)s,
        %(window_bars)s, %(sources)s, %(manifest)s)
ON CONFLICT (book, bar_end_at) DO UPDATE
SET as_of = excluded.as_of, bars_hash = excluded.bars_hash, bar_count = excluded.bar_count,
    action_count = excluded.action_count, window_hash = excluded.window_hash, window_bars = excluded.window_bars,
    sources = excluded.sources, manifest_hash = excluded.manifest_hash

-- name: manifest
SELECT as_of, bars_hash, window_hash, manifest_hash FROM manifests WHERE book = %s AND bar_end_at = %s
