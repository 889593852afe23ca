-- name: last_state
SELECT bar_end_at, session_date, cash_e4, equity_e4, peak_equity_e4, prev_session_equity_e4, realised_e4, fees_e4,
       dividends_e4, trading_state, state_hash
FROM book_states WHERE book = %(book)s AND (%(session)s::date IS NULL OR session_date = %(session)s)
ORDER BY bar_end_at DESC LIMIT 1

-- name: positions
SELECT s.symbol, p.qty_e6, p.mark_e4, p.stale_bars
FROM book_positions p
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = p.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE p.book = %(book)s AND p.bar_end_at = %(bar_end)s AND p.qty_e6 <> 0 ORDER BY s.symbol

-- name: signals
SELECT g.strategy, s.symbol, g.score
FROM signals g
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = g.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE g.book = %(book)s AND g.bar_end_at = %(bar_end)s ORDER BY g.strategy, s.symbol

-- name: targets
SELECT s.symbol, t.qty_e6, t.weight_ppm
FROM targets t
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = t.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE t.book = %(book)s AND t.bar_end_at = %(bar_end)s AND t.qty_e6 <> 0
  AND t.version = (SELECT max(version) FROM decisions d WHERE d.book = t.book AND d.bar_end_at = t.bar_end_at)
ORDER BY s.symbol

-- name: orders
SELECT s.symbol, o.order_qty_e6, o.ref_price_e4, o.status, o.client_order_id
FROM orders o
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = o.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE o.book = %(book)s AND o.bar_end_at = %(bar_end)s AND o.status <> 'VOIDED' ORDER BY o.line_no

-- name: fills
SELECT s.symbol, f.qty_e6, f.price_e4, f.fee_e4
FROM fills f
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = f.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE f.book = %(book)s AND f.bar_end_at = %(bar_end)s ORDER BY f.fill_no

-- name: quality
SELECT rows_checked, rows_failed, members_due, members_seen, coverage_frac, gate_open, gate_reason
FROM quality_results q JOIN books b ON b.source = q.source AND b.timeframe = q.timeframe AND b.universe = q.universe
WHERE b.book = %(book)s AND q.bar_end_at = %(bar_end)s ORDER BY checked_at DESC LIMIT 1

-- name: report
SELECT path FROM reports WHERE book = %(book)s AND bar_end_at = %(bar_end)s

-- name: order_bar
SELECT i.book, r.session_date, i.bar_end_at FROM intents i JOIN bar_runs r USING (book, bar_end_at)
WHERE i.client_order_id = %s

-- name: order_state
SELECT o.status, (SELECT b.broker_order_id FROM broker_orders b WHERE b.client_order_id = o.client_order_id
                  AND b.book = o.book ORDER BY b.first_seen_at DESC LIMIT 1)
FROM orders o WHERE o.client_order_id = %s

-- name: broker_account
SELECT account_number, live_enabled FROM broker_accounts WHERE account = %(account)s

-- name: successor
-- The book that was opened later on the same account of a venue.
SELECT book FROM books WHERE account = %(account)s AND kind <> 'simulated' AND book <> %(book)s
  AND opened_at > (SELECT opened_at FROM books WHERE book = %(book)s) ORDER BY opened_at DESC LIMIT 1

-- name: set_live
INSERT INTO broker_accounts (account, account_number, live_enabled, changed_by, reason, changed_at)
VALUES (%(account)s, %(number)s, %(enabled)s, %(by)s, %(reason)s, %(now)s)
ON CONFLICT (account) DO UPDATE SET live_enabled = excluded.live_enabled, changed_by = excluded.changed_by,
    reason = excluded.reason, changed_at = excluded.changed_at

-- name: unknown_orders
SELECT client_order_id FROM orders WHERE book = %(book)s AND status IN ('UNKNOWN', 'SUBMITTING') ORDER BY 1

-- name: breaks
SELECT break_id, kind, subject, ledger_value, broker_value, cause, owner, opened_at FROM breaks
WHERE book = %(book)s AND status = 'open' ORDER BY opened_at, break_id

-- name: book_orders
SELECT o.client_order_id, r.session_date, o.version, s.symbol, o.order_qty_e6, o.filled_e6, o.order_type,
       o.time_in_force, o.limit_price_e4,
       CASE WHEN o.status IN ('ACKED', 'PARTIAL') AND EXISTS (SELECT 1 FROM broker_orders b WHERE b.book = o.book
                 AND b.client_order_id = o.client_order_id AND b.status = 'pending_cancel') THEN 'CANCEL_PENDING'
            ELSE o.status END, o.status_detail, o.status_at
FROM orders o
JOIN bar_runs r USING (book, bar_end_at)
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = o.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE o.book = %(book)s
  AND r.session_date = coalesce(%(session)s::date, (SELECT max(q.session_date) FROM intents i
                                JOIN bar_runs q USING (book, bar_end_at) WHERE i.book = o.book))
ORDER BY o.bar_end_at, o.version, o.line_no, o.child

-- name: ordered_state
SELECT to_state, bar_end_at, actor, reason FROM state_events
WHERE book = %(book)s AND actor <> 'breaker' AND bar_end_at > (SELECT max(bar_end_at) FROM book_states s WHERE s.book = %(book)s)
ORDER BY bar_end_at DESC, event_no DESC LIMIT 1

-- name: order_life
SELECT event_no, status, happened_at, detail FROM order_events WHERE client_order_id = %s ORDER BY event_no

-- name: checks
SELECT run_no, check_no, name, passed, detail, checked_at FROM check_results
WHERE client_order_id = %s ORDER BY run_no, check_no

-- name: newest_session
SELECT max(session_date) FROM bars;
