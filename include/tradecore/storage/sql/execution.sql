-- name: sheet_orders
-- The newest sheet's orders with their newest status, sells before buys. A twap parent is never sent: its slices are.
SELECT o.client_order_id, s.symbol, o.instrument_id, o.order_qty_e6, o.order_type, o.time_in_force, o.limit_price_e4,
       o.stop_price_e4, o.take_profit_e4, o.stop_loss_e4, o.parent_id, o.child, o.not_before_at, o.ref_price_e4,
       o.split_num, o.split_den, o.line_no, o.status
FROM orders o
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = o.instrument_id
              AND x.valid_from <= %(session)s ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE o.book = %(book)s AND o.bar_end_at = %(bar_end)s
  AND o.order_type <> 'twap' AND o.leg = 0
  AND o.version = (SELECT max(d.version) FROM decisions d WHERE d.book = o.book AND d.bar_end_at = o.bar_end_at)
ORDER BY o.order_qty_e6 > 0, o.child > 0, o.not_before_at NULLS FIRST, o.line_no, o.child

-- name: status
SELECT status FROM order_events WHERE client_order_id = %s ORDER BY event_no DESC LIMIT 1

-- name: shown
-- As people see it: the newest event, and CANCEL_PENDING from when the venue has said that its end is under way.
SELECT CASE WHEN o.status IN ('ACKED', 'PARTIAL') AND EXISTS (SELECT 1 FROM broker_orders b WHERE b.book = o.book
            AND b.client_order_id = o.client_order_id AND b.status = 'pending_cancel') THEN 'CANCEL_PENDING'
       ELSE o.status END
FROM orders o WHERE o.client_order_id = %s

-- name: at_risk
-- Orders of the book that may be at the venue without our knowing: whatever bar they were decided at.
SELECT client_order_id FROM orders WHERE book = %s AND status IN ('SUBMITTING', 'UNKNOWN') ORDER BY client_order_id

-- name: sent
-- What was sent for this bar, or still works, with what of it no bar has booked: parents stand for themselves only.
SELECT o.client_order_id, s.symbol, o.order_qty_e6,
       CASE WHEN o.status IN ('SUBMITTING', 'UNKNOWN', 'ACKED', 'PARTIAL', 'FILLED') THEN o.order_qty_e6 - o.filled_e6
            ELSE 0 END, o.ref_price_e4, e.happened_at,
       o.status IN ('SUBMITTING', 'UNKNOWN', 'ACKED', 'PARTIAL'), o.child > 0, o.parent_id
FROM orders o
JOIN LATERAL (SELECT happened_at FROM order_events x WHERE x.client_order_id = o.client_order_id
              AND x.status = 'SUBMITTING' ORDER BY event_no LIMIT 1) e ON true
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = o.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE o.book = %(book)s AND (o.bar_end_at = %(bar_end)s OR o.status IN ('SUBMITTING', 'UNKNOWN', 'ACKED', 'PARTIAL'))
  AND o.status <> 'REJECTED' AND o.status <> 'NOT_SENT' AND o.leg = 0

-- name: held
SELECT instrument_id, qty_e6, mark_e4, stale_bars FROM book_positions WHERE book = %s AND bar_end_at = %s

-- name: volumes
-- Mean volume of the last 20 bars of each instrument.
SELECT w.instrument_id, (SELECT avg(volume) FROM (
    SELECT volume FROM bars b WHERE b.instrument_id = w.instrument_id AND b.timeframe = %(timeframe)s
      AND b.source = %(source)s AND b.bar_end_at <= %(bar_end)s ORDER BY b.bar_end_at DESC LIMIT 20) v)
FROM unnest(%(instruments)s::integer[]) AS w (instrument_id)

-- name: snapshot
SELECT daily_return_ppm, drawdown_ppm, turnover_ppm FROM risk_snapshots
WHERE book = %s AND bar_end_at = %s ORDER BY version DESC LIMIT 1

-- name: usual_turnover
-- Median of the last 60 decisions that traded; NULL before there are 20.
SELECT CASE WHEN count(*) >= 20 THEN percentile_cont(0.5) WITHIN GROUP (ORDER BY turnover_ppm) END
FROM (SELECT DISTINCT ON (bar_end_at) bar_end_at, turnover_ppm FROM risk_snapshots
      WHERE book = %(book)s AND bar_end_at < %(bar_end)s AND turnover_ppm > 0
      ORDER BY bar_end_at DESC, version DESC LIMIT 60) t

-- name: broker_account
SELECT account_number, live_enabled FROM broker_accounts WHERE account = %s

-- name: open_breaks
SELECT count(*) FROM breaks WHERE book = %s AND status = 'open'

-- name: reconciled
-- The newest look at this bar, after settle or before plan.
SELECT comparable, clean FROM reconciliations WHERE book = %s AND bar_end_at = %s
ORDER BY looked_at DESC, run_no DESC LIMIT 1

-- name: adopted_working
SELECT symbol FROM broker_orders WHERE book = %s AND adopted
  AND status IN ('pending', 'open', 'partial', 'pending_cancel', 'pending_replace')

-- name: add_check
INSERT INTO check_results (client_order_id, check_no, run_no, name, passed, detail, checked_at)
SELECT %(id)s, %(number)s, coalesce(max(run_no), 0) + 1, %(name)s, %(passed)s, %(detail)s, %(now)s
FROM check_results WHERE client_order_id = %(id)s AND check_no = %(number)s

-- name: try_sender
SELECT pg_try_advisory_lock(hashtextextended(%s, 8))

-- name: release_sender
SELECT pg_advisory_unlock(hashtextextended(%s, 8))

-- name: client_ids
SELECT client_order_id FROM broker_orders WHERE account = %s AND broker_order_id = ANY(%s) ORDER BY 1

-- name: reached
-- Orders that the venue has, as far as we know: ACKED or PARTIAL.
SELECT client_order_id FROM orders WHERE book = %s AND status IN ('ACKED', 'PARTIAL')

-- name: replaced
-- What a sheet replaces in an instrument, where it still works, or was executed since the sheet was made.
SELECT c.client_order_id, o.status IN ('SUBMITTING', 'UNKNOWN', 'ACKED', 'PARTIAL')
FROM sheet_cancels c
JOIN orders o USING (client_order_id)
JOIN broker_orders b ON b.client_order_id = c.client_order_id AND b.book = c.book
WHERE c.book = %(book)s AND c.bar_end_at = %(bar_end)s AND o.instrument_id = %(instrument)s
  AND c.version = (SELECT max(d.version) FROM decisions d WHERE d.book = c.book AND d.bar_end_at = c.bar_end_at)
  AND (o.status IN ('SUBMITTING', 'UNKNOWN', 'ACKED', 'PARTIAL') OR abs(b.filled_qty * 1000000 - o.filled_e6) >= 1)
ORDER BY 1

-- name: stopped
-- A leg of ours that executed more than the book has: the sheet was made without knowing.
SELECT 1 FROM broker_orders o
WHERE o.book = %(book)s AND o.symbol = %(symbol)s AND NOT o.adopted AND o.parent_id IS NOT NULL AND o.filled_qty <> 0
  AND abs(o.filled_qty) > (SELECT coalesce(sum(abs(f.qty)), 0) FROM broker_fills f WHERE f.account = o.account
                           AND f.broker_order_id = o.broker_order_id AND f.booked_bar_end_at IS NOT NULL)
LIMIT 1

-- name: unwanted
-- Orders of ours that work at the venue and must end: what the sheet replaces, and what the state does not allow.
SELECT b.broker_order_id FROM broker_orders b
WHERE b.book = %(book)s AND NOT b.adopted AND b.parent_id IS NULL AND b.status IN ('pending', 'open', 'partial')
  AND (%(state)s = 'HALTED'
       OR (%(state)s = 'REDUCING' AND b.qty > coalesce(  -- a buy of no more than is short only reduces
           (SELECT greatest(-p.qty_e6, 0) / 1000000.0 FROM intents i
            JOIN book_positions p ON p.book = i.book AND p.instrument_id = i.instrument_id
                                 AND p.bar_end_at = (SELECT max(bar_end_at) FROM book_states WHERE book = i.book)
            WHERE i.client_order_id = b.client_order_id), 0))
       OR EXISTS (SELECT 1 FROM sheet_cancels c WHERE c.book = b.book AND c.bar_end_at = %(bar_end)s
                  AND c.version = %(version)s AND c.client_order_id = b.client_order_id))
ORDER BY b.broker_order_id
