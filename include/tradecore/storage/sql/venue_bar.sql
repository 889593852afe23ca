-- name: due_fills
-- What was executed up to this bar's end and is in no bar yet, with the order of ours that it belongs to (own), or whose
-- bracket it is a leg of (parent).
SELECT f.fill_id, f.broker_order_id, f.symbol, f.qty, f.price, f.fee, f.filled_at,
       i.client_order_id, i.instrument_id, i.bar_end_at, i.line_no,
       p.client_order_id, p.instrument_id, p.bar_end_at, p.line_no
FROM broker_fills f
LEFT JOIN broker_orders o ON o.account = f.account AND o.broker_order_id = f.broker_order_id
LEFT JOIN broker_orders b ON b.account = o.account AND b.broker_order_id = o.parent_id
LEFT JOIN intents i ON i.client_order_id = o.client_order_id AND i.book = f.book AND i.leg = 0
LEFT JOIN intents p ON p.client_order_id = b.client_order_id AND p.book = f.book
WHERE f.book = %(book)s AND f.account = %(account)s AND f.booked_bar_end_at IS NULL AND f.filled_at <= %(bar_end)s
ORDER BY f.filled_at, sign(f.qty) DESC, f.fill_id

-- name: instrument_of
-- Whose symbol it is on a session.
SELECT instrument_id FROM instrument_symbols
WHERE symbol = %s AND valid_from <= %s AND (valid_to IS NULL OR valid_to > %s) ORDER BY valid_from DESC LIMIT 1

-- name: orders
-- Orders of earlier bars that are, or may be, at the venue, and those that executions of this bar belong to.
SELECT client_order_id, bar_end_at, line_no, status, time_in_force, next_bar_end_at, instrument_id, order_qty_e6
FROM orders
WHERE book = %(book)s AND bar_end_at < %(bar_end)s AND leg = 0
  AND (status IN ('SUBMITTING', 'UNKNOWN', 'ACKED', 'PARTIAL') OR client_order_id = ANY(%(ids)s))
ORDER BY bar_end_at, line_no

-- name: due_activities
SELECT activity_id, kind, symbol, amount FROM broker_activities
WHERE book = %(book)s AND account = %(account)s AND booked_bar_end_at IS NULL AND effective_on <= %(session)s
  AND kind IN ('fee', 'interest', 'transfer', 'dividend', 'split')
ORDER BY effective_on, activity_id

-- name: add_cash
INSERT INTO cash_events (book, bar_end_at, kind, amount_e4, note) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (book, bar_end_at, kind) DO UPDATE SET amount_e4 = cash_events.amount_e4 + excluded.amount_e4

-- name: book_fill
UPDATE broker_fills SET booked_bar_end_at = %s WHERE account = %s AND fill_id = %s

-- name: book_activity
UPDATE broker_activities SET booked_bar_end_at = %s WHERE account = %s AND activity_id = %s

-- name: explain
INSERT INTO explained_differences (book, bar_end_at, kind, subject, amount, detail)
VALUES (%(book)s, %(bar_end)s, %(kind)s, %(subject)s, %(amount)s, %(detail)s)
ON CONFLICT (book, bar_end_at, kind, subject)
DO UPDATE SET amount = explained_differences.amount + excluded.amount,
              detail = explained_differences.detail || '; ' || excluded.detail

-- name: add_event
INSERT INTO book_events (book, bar_end_at, event_no, kind, instrument_id, amount, detail)
SELECT %(book)s, %(bar_end)s, coalesce(max(event_no), 0) + 1, %(kind)s, %(instrument)s, %(amount)s, %(detail)s
FROM book_events WHERE book = %(book)s AND bar_end_at = %(bar_end)s
