-- name: know_order
-- What the venue has of an order, by its own id; seen again it is brought up to date. An order of ours in the place of
-- legs is kept as their bracket's: like them it is not what the sheet ordered, and a halt leaves it at work.
INSERT INTO broker_orders (account, broker_order_id, client_order_id, book, symbol, qty, order_type, time_in_force,
    adopted, parent_id, status, filled_qty, first_seen_at, changed_at)
VALUES (%(account)s, %(broker_id)s, %(client_id)s, %(book)s, %(symbol)s, %(qty)s, %(type)s, %(tif)s, %(adopted)s,
        coalesce(%(parent)s, (SELECT b.broker_order_id FROM intents i JOIN broker_orders b
                              ON b.client_order_id = i.parent_id AND b.account = i.account
                              WHERE i.client_order_id = %(client_id)s AND i.leg > 0 LIMIT 1)),
        %(status)s, %(filled)s, %(now)s, %(now)s)
ON CONFLICT (account, broker_order_id) DO UPDATE
SET status = excluded.status, filled_qty = excluded.filled_qty, qty = excluded.qty,
    parent_id = coalesce(excluded.parent_id, broker_orders.parent_id), changed_at = excluded.changed_at
WHERE (broker_orders.status, broker_orders.filled_qty, broker_orders.qty, broker_orders.parent_id)
      IS DISTINCT FROM (excluded.status, excluded.filled_qty, excluded.qty,
                        coalesce(excluded.parent_id, broker_orders.parent_id))

-- name: seen
SELECT adopted FROM broker_orders WHERE account = %s AND broker_order_id = %s

-- name: parents
-- The parents of legs: the venue names them only inside the parent, and only while that is recent.
SELECT broker_order_id, parent_id FROM broker_orders
WHERE account = %s AND broker_order_id = ANY(%s) AND parent_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM intents i WHERE i.client_order_id = broker_orders.client_order_id)

-- name: intent
-- What an order of ours should be at the venue, and the newest that we know of it; symbol in its own session.
SELECT s.symbol, i.order_qty_e6, i.order_type, i.time_in_force, i.limit_price_e4, i.stop_price_e4, e.status, e.detail,
       e.event_no, i.bar_end_at, i.leg
FROM intents i
JOIN LATERAL (SELECT status, detail, event_no FROM order_events o WHERE o.client_order_id = i.client_order_id
              ORDER BY event_no DESC LIMIT 1) e ON true
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = i.instrument_id
              AND x.valid_from <= i.next_bar_end_at::date ORDER BY x.valid_from DESC LIMIT 1) s ON true
WHERE i.client_order_id = %s AND i.book = %s

-- name: sent
-- When the newest SUBMITTING was, and the look-ups since that did not find the order.
SELECT s.happened_at, e.happened_at, e.detail
FROM (SELECT event_no, happened_at FROM order_events WHERE client_order_id = %(id)s AND status = 'SUBMITTING'
      ORDER BY event_no DESC LIMIT 1) s
LEFT JOIN order_events e ON e.client_order_id = %(id)s AND e.event_no > s.event_no AND e.status = 'UNKNOWN'
                        AND e.detail LIKE 'not found %%'
ORDER BY e.event_no

-- name: at_risk_before
-- Orders decided before this bar that may be at the venue without our knowing.
SELECT client_order_id FROM orders WHERE book = %s AND bar_end_at < %s AND status IN ('SUBMITTING', 'UNKNOWN')
ORDER BY bar_end_at, line_no

-- name: working_at_venue
-- Orders that worked when they were last seen, or that filled after their end: an execution of them is not booked yet.
SELECT broker_order_id, client_order_id FROM broker_orders WHERE book = %(book)s AND account = %(account)s AND status IN
    ('pending', 'open', 'partial', 'pending_cancel', 'pending_replace')
UNION
SELECT o.broker_order_id, o.client_order_id FROM broker_fills f JOIN broker_orders o USING (account, broker_order_id)
WHERE f.book = %(book)s AND f.account = %(account)s AND f.booked_bar_end_at IS NULL
ORDER BY broker_order_id

-- name: cursor
SELECT cursor FROM broker_cursors WHERE account = %s AND kind = %s

-- name: missed_since
-- Since when the venue's executions lack something that it says itself of an order.
SELECT min(o.first_seen_at) FROM broker_orders o
WHERE o.account = %s AND o.book = %s AND o.first_seen_at > %s AND o.filled_qty <> (
    SELECT coalesce(sum(f.qty), 0) FROM broker_fills f
    WHERE f.account = o.account AND f.broker_order_id = o.broker_order_id)

-- name: set_cursor
INSERT INTO broker_cursors (account, kind, cursor, changed_at) VALUES (%(account)s, %(kind)s, %(cursor)s, %(now)s)
ON CONFLICT (account, kind) DO UPDATE SET cursor = excluded.cursor, changed_at = excluded.changed_at
WHERE broker_cursors.cursor <> excluded.cursor

-- name: add_fill
INSERT INTO broker_fills (account, fill_id, broker_order_id, book, symbol, qty, price, fee, filled_at, seen_at,
                          booked_bar_end_at)
VALUES (%(account)s, %(id)s, %(order)s, %(book)s, %(symbol)s, %(qty)s, %(price)s, %(fee)s, %(at)s, %(now)s, %(booked)s)
ON CONFLICT DO NOTHING

-- name: add_activity
INSERT INTO broker_activities (account, activity_id, book, kind, symbol, qty, amount, effective_on, note, seen_at,
                               booked_bar_end_at)
VALUES (%(account)s, %(id)s, %(book)s, %(kind)s, %(symbol)s, %(qty)s, %(amount)s, %(on)s, %(note)s, %(now)s, %(booked)s)
ON CONFLICT DO NOTHING

-- name: account_number
SELECT account_number FROM broker_accounts WHERE account = %s

-- name: account_of_number
SELECT account FROM broker_accounts WHERE account_number = %s AND account <> %s

-- name: add_account
INSERT INTO broker_accounts (account, account_number, live_enabled, changed_by, reason, changed_at)
VALUES (%s, %s, false, %s, %s, %s)

-- name: last_close
SELECT close_e4 FROM bars WHERE instrument_id = %s AND timeframe = %s AND source = %s AND bar_end_at <= %s
ORDER BY bar_end_at DESC LIMIT 1
