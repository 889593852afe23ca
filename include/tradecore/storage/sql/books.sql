-- name: book
SELECT book, kind, account, calendar, currency, timeframe, source, universe, inception_at FROM books WHERE book = %s

-- name: add_book
INSERT INTO books (book, kind, account, calendar, currency, timeframe, source, universe, inception_at, opened_at)
VALUES (%(book)s, %(kind)s, %(account)s, %(calendar)s, %(currency)s, %(timeframe)s, %(source)s, %(universe)s,
        %(inception_at)s, %(now)s)

-- name: add_cash
INSERT INTO cash_events (book, bar_end_at, kind, amount_e4, note) VALUES (%s, %s, %s, %s, %s)

-- name: deposits
SELECT coalesce(sum(amount_e4), 0)::bigint FROM cash_events
WHERE book = %s AND bar_end_at = %s AND kind <> 'opening'

-- name: run
SELECT status, outcome, changed_at FROM bar_runs WHERE book = %s AND bar_end_at = %s

-- name: start_run
INSERT INTO bar_runs (book, bar_end_at, session_date, status, started_at, changed_at)
VALUES (%(book)s, %(bar_end)s, %(session)s, 'started', %(now)s, %(now)s)
ON CONFLICT (book, bar_end_at) DO NOTHING

-- name: set_run
-- Closed is final: a late process of a bar that was given up cannot open it again.
UPDATE bar_runs SET status = %(status)s, outcome = %(outcome)s, changed_at = %(now)s
WHERE book = %(book)s AND bar_end_at = %(bar_end)s AND status <> 'closed'
  AND (status, outcome) IS DISTINCT FROM (%(status)s, %(outcome)s)

-- name: last_run
SELECT bar_end_at, session_date, status, outcome FROM bar_runs
WHERE book = %s AND status <> 'started' ORDER BY bar_end_at DESC LIMIT 1

-- name: closed_by
-- The newest bar that a book had closed by a time.
SELECT max(bar_end_at) FROM bar_runs WHERE book = %(book)s AND status = 'closed' AND changed_at <= %(at)s

-- name: state
SELECT cash_e4, equity_e4, peak_equity_e4, prev_session_equity_e4, realised_e4, fees_e4, dividends_e4, trading_state,
       state_sessions, ordered_state, state_hash
FROM book_states WHERE book = %s AND bar_end_at = %s

-- name: last_state
SELECT bar_end_at, session_date FROM book_states WHERE book = %s ORDER BY bar_end_at DESC LIMIT 1

-- name: newest_state_until
SELECT max(bar_end_at) FROM book_states WHERE book = %s AND bar_end_at <= %s

-- name: positions
SELECT instrument_id, qty_e6, mark_e4, stale_bars FROM book_positions WHERE book = %s AND bar_end_at = %s

-- name: held
SELECT instrument_id FROM book_positions WHERE book = %(book)s AND bar_end_at = %(bar_end)s AND qty_e6 <> 0
UNION SELECT instrument_id FROM book_allocations WHERE book = %(book)s AND bar_end_at = %(bar_end)s
UNION SELECT instrument_id FROM book_receivables WHERE book = %(book)s AND bar_end_at = %(bar_end)s
UNION SELECT instrument_id FROM book_working_orders WHERE book = %(book)s AND bar_end_at = %(bar_end)s
UNION SELECT instrument_id FROM intents WHERE book = %(book)s AND bar_end_at = %(bar_end)s

-- name: missed_actions
-- Actions that went ex on a bar that has settled, for a holder, and that the book knows nothing of: learned too late.
SELECT DISTINCT s.symbol, a.ex_date, a.kind
FROM (SELECT DISTINCT ON (instrument_id, ex_date, kind) * FROM corporate_actions
      WHERE source = %(source)s AND ex_date >= %(first)s AND ex_date <= %(last)s AND kind <> 'symbol_change'
      ORDER BY instrument_id, ex_date, kind, known_at DESC) a
JOIN LATERAL (SELECT symbol FROM instrument_symbols s WHERE s.instrument_id = a.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
JOIN LATERAL (SELECT bar_end_at FROM book_states b WHERE b.book = %(book)s AND b.session_date >= a.ex_date
              ORDER BY bar_end_at LIMIT 1) ex ON true
JOIN LATERAL (SELECT bar_end_at FROM book_states b WHERE b.book = %(book)s AND b.bar_end_at < ex.bar_end_at
              ORDER BY bar_end_at DESC LIMIT 1) before ON true
JOIN book_positions p ON p.book = %(book)s AND p.bar_end_at = before.bar_end_at
                     AND p.instrument_id = a.instrument_id AND p.qty_e6 <> 0
WHERE NOT a.withdrawn
  AND NOT EXISTS (SELECT 1 FROM book_events e WHERE e.book = %(book)s AND e.bar_end_at = ex.bar_end_at
                  AND e.instrument_id = a.instrument_id
                  AND e.kind LIKE CASE a.kind WHEN 'stock_dividend' THEN 'split' WHEN 'delisting' THEN 'delisted'
                                              ELSE a.kind END || '%%')
ORDER BY a.ex_date, s.symbol, a.kind

-- name: lots
SELECT instrument_id, lot_no, qty_e6, cost_e4, opened_ns FROM book_lots WHERE book = %s AND bar_end_at = %s
ORDER BY instrument_id, lot_no

-- name: allocations
SELECT strategy, instrument_id, qty_e6 FROM book_allocations WHERE book = %s AND bar_end_at = %s

-- name: receivables
SELECT instrument_id, pay_day, amount_e4 FROM book_receivables WHERE book = %s AND bar_end_at = %s
ORDER BY instrument_id, pay_day

-- name: carried
SELECT w.client_order_id, w.instrument_id, w.order_qty_e6, w.remaining_e6, w.limit_price_e4, w.stop_price_e4,
       w.age_bars, w.wants, i.bar_end_at, i.line_no, i.ref_price_e4, i.remainder, 1, 1,
       i.order_type, i.time_in_force
FROM book_working_orders w JOIN intents i USING (client_order_id)
WHERE w.book = %s AND w.bar_end_at = %s
  AND NOT EXISTS (SELECT 1 FROM order_events e WHERE e.client_order_id = w.client_order_id AND e.status = 'CANCELED'
                  AND e.bar_end_at <= w.bar_end_at)
ORDER BY i.bar_end_at, i.line_no

-- name: carried_when_decided
-- As `carried`, and with what that decision's own sheet replaced: that was cancelled after it.
SELECT w.client_order_id, w.instrument_id, w.order_qty_e6, w.remaining_e6, w.limit_price_e4, w.stop_price_e4,
       w.age_bars, w.wants, i.bar_end_at, i.line_no, i.ref_price_e4, i.remainder, 1, 1,
       i.order_type, i.time_in_force
FROM book_working_orders w JOIN intents i USING (client_order_id)
WHERE w.book = %s AND w.bar_end_at = %s
  AND (NOT EXISTS (SELECT 1 FROM order_events e WHERE e.client_order_id = w.client_order_id AND e.status = 'CANCELED'
                   AND e.bar_end_at <= w.bar_end_at)
       OR EXISTS (SELECT 1 FROM sheet_cancels c WHERE c.book = w.book AND c.bar_end_at = w.bar_end_at
                  AND c.client_order_id = w.client_order_id))
ORDER BY i.bar_end_at, i.line_no

-- name: working
-- Orders at a real venue, in the units of the bar before: as that bar left them, or as they were planned.
SELECT i.client_order_id, i.instrument_id, coalesce(w.order_qty_e6, i.order_qty_e6),
       coalesce(nullif(w.remaining_e6, 0), i.order_qty_e6), coalesce(w.limit_price_e4, i.limit_price_e4),
       coalesce(w.stop_price_e4, i.stop_price_e4), coalesce(w.age_bars, 0), coalesce(w.wants, c.wants, '{}'::jsonb),
       i.bar_end_at, i.line_no, i.ref_price_e4, i.remainder,
       CASE WHEN w.book IS NULL AND i.bar_end_at = %(before)s THEN i.split_num ELSE 1 END,
       CASE WHEN w.book IS NULL AND i.bar_end_at = %(before)s THEN i.split_den ELSE 1 END,
       i.order_type, i.time_in_force
FROM intents i
LEFT JOIN book_working_orders w ON w.book = i.book AND w.bar_end_at = %(before)s
                               AND w.client_order_id = i.client_order_id
LEFT JOIN LATERAL (SELECT jsonb_object_agg(strategy, qty_e6) AS wants FROM target_contributions t
                   WHERE t.book = i.book AND t.bar_end_at = i.bar_end_at AND t.version = i.version
                     AND t.instrument_id = i.instrument_id) c ON true
WHERE i.book = %(book)s AND i.client_order_id = ANY(%(ids)s)
ORDER BY i.bar_end_at, i.line_no

-- name: planned
SELECT o.client_order_id, o.instrument_id, o.order_qty_e6, o.limit_price_e4, o.stop_price_e4, o.line_no,
       o.ref_price_e4, o.remainder, o.split_num, o.split_den, o.version, o.status, o.order_type, o.time_in_force
FROM orders o
WHERE o.book = %s AND o.bar_end_at = %s AND o.leg = 0
  AND o.version = (SELECT max(d.version) FROM decisions d WHERE d.book = o.book AND d.bar_end_at = o.bar_end_at)
ORDER BY o.line_no

-- name: planned_back_then
-- As `planned`, with the status that each order had when the next bar came.
SELECT i.client_order_id, i.instrument_id, i.order_qty_e6, i.limit_price_e4, i.stop_price_e4, i.line_no,
       i.ref_price_e4, i.remainder, i.split_num, i.split_den, i.version, e.status, i.order_type, i.time_in_force
FROM intents i
JOIN LATERAL (SELECT status FROM order_events o WHERE o.client_order_id = i.client_order_id
              AND o.bar_end_at <= i.bar_end_at ORDER BY o.event_no DESC LIMIT 1) e ON true
WHERE i.book = %s AND i.bar_end_at = %s AND i.leg = 0
  AND i.version = (SELECT max(d.version) FROM decisions d WHERE d.book = i.book AND d.bar_end_at = i.bar_end_at)
ORDER BY i.line_no

-- name: contributions
SELECT strategy, instrument_id, qty_e6 FROM target_contributions
WHERE book = %s AND bar_end_at = %s AND version = %s

-- name: add_state
INSERT INTO book_states (book, bar_end_at, session_date, cash_e4, equity_e4, peak_equity_e4, prev_session_equity_e4,
    realised_e4, fees_e4, dividends_e4, trading_state, state_sessions, ordered_state,
    state_hash, as_of, config_hash, manifest_hash)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_position
INSERT INTO book_positions (book, bar_end_at, instrument_id, qty_e6, mark_e4, stale_bars) VALUES (%s, %s, %s, %s, %s, %s)

-- name: add_lot
INSERT INTO book_lots (book, bar_end_at, instrument_id, lot_no, qty_e6, cost_e4, opened_ns)
VALUES (%s, %s, %s, %s, %s, %s, %s)

-- name: add_allocation
INSERT INTO book_allocations (book, bar_end_at, strategy, instrument_id, qty_e6) VALUES (%s, %s, %s, %s, %s)

-- name: add_receivable
INSERT INTO book_receivables (book, bar_end_at, instrument_id, pay_day, amount_e4) VALUES (%s, %s, %s, %s, %s)

-- name: add_carried
INSERT INTO book_working_orders (book, bar_end_at, client_order_id, instrument_id, order_qty_e6, remaining_e6,
    limit_price_e4, stop_price_e4, age_bars, wants)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_event
INSERT INTO book_events (book, bar_end_at, event_no, kind, instrument_id, amount, detail)
VALUES (%s, %s, %s, %s, %s, %s, %s)

-- name: add_state_event
INSERT INTO state_events (book, bar_end_at, event_no, from_state, to_state, actor, reason)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (book, bar_end_at, event_no) DO NOTHING

-- name: person_state
SELECT to_state FROM state_events WHERE book = %s AND bar_end_at = %s AND actor <> 'breaker'
ORDER BY event_no DESC LIMIT 1

-- name: add_fill
INSERT INTO fills (fill_id, client_order_id, book, bar_end_at, fill_no, instrument_id, qty_e6, price_e4, open_price_e4,
                   fee_e4)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_venue_fill
INSERT INTO fills (fill_id, client_order_id, book, bar_end_at, fill_no, instrument_id, qty_e6, price_e4, open_price_e4,
                   fee_e4, broker_order_id, notional_e4)
VALUES (%(id)s, %(client_id)s, %(book)s, %(bar_end)s, %(number)s, %(instrument)s, %(qty)s, %(price)s, %(open)s, %(fee)s,
        %(order)s, %(notional)s)

-- name: add_order_event
INSERT INTO order_events (client_order_id, event_no, status, bar_end_at, happened_at, detail)
SELECT %(id)s, coalesce(max(event_no), 0) + 1, %(status)s, %(bar_end)s, %(now)s, %(detail)s
FROM order_events WHERE client_order_id = %(id)s

-- name: add_person_state
INSERT INTO state_events (book, bar_end_at, event_no, from_state, to_state, actor, reason)
SELECT %(book)s, %(bar_end)s, coalesce(max(event_no), 0) + 1, %(old)s, %(new)s, %(actor)s, %(reason)s
FROM state_events WHERE book = %(book)s AND bar_end_at = %(bar_end)s AND actor <> 'breaker'

-- name: add_flatten
INSERT INTO flatten_orders (book, bar_end_at, actor, reason)
VALUES (%(book)s, %(bar_end)s, %(actor)s, %(reason)s) ON CONFLICT (book, bar_end_at) DO NOTHING

-- name: flattened
-- Whether the newest order to sell everything is in force at a bar: nobody ordered ACTIVE since.
SELECT 1 FROM flatten_orders f
CROSS JOIN (SELECT %s::text AS book, %s::timestamptz AS bar_end_at) k
WHERE f.book = k.book AND f.bar_end_at <= k.bar_end_at
  AND NOT EXISTS (SELECT 1 FROM state_events e WHERE e.book = k.book AND e.to_state = 0 AND e.actor NOT LIKE 'breaker%%'
                  AND e.bar_end_at > f.bar_end_at AND e.bar_end_at <= k.bar_end_at)
LIMIT 1
