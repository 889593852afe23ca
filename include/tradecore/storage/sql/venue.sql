-- The simulated venue.
-- name: add
INSERT INTO venue_orders (client_order_id, book, symbol, qty_e6, order_type, time_in_force, status, submitted_at,
                          changed_at)
VALUES (%(id)s, %(book)s, %(symbol)s, %(qty_e6)s, %(order_type)s, %(time_in_force)s, 'open', %(now)s, %(now)s)
ON CONFLICT (client_order_id) DO NOTHING
RETURNING client_order_id, symbol, qty_e6, filled_e6, status, order_type, time_in_force, submitted_at, changed_at

-- name: order
SELECT v.client_order_id, v.symbol, v.qty_e6, v.filled_e6, v.status, v.order_type, v.time_in_force, v.submitted_at,
       v.changed_at, f.average_price
FROM venue_orders v
LEFT JOIN LATERAL (SELECT sum(qty_e6::numeric * price_e4) / sum(qty_e6) / 10000 AS average_price FROM fills x
                   WHERE x.client_order_id = v.client_order_id) f ON true
WHERE v.book = %s AND v.client_order_id = %s

-- name: orders_since
SELECT v.client_order_id, v.symbol, v.qty_e6, v.filled_e6, v.status, v.order_type, v.time_in_force, v.submitted_at,
       v.changed_at, f.average_price
FROM venue_orders v
LEFT JOIN LATERAL (SELECT sum(qty_e6::numeric * price_e4) / sum(qty_e6) / 10000 AS average_price FROM fills x
                   WHERE x.client_order_id = v.client_order_id) f ON true
WHERE v.book = %s AND (v.submitted_at >= %s OR v.status IN ('open', 'partial'))
ORDER BY v.submitted_at, v.client_order_id

-- name: cancel
UPDATE venue_orders SET status = 'canceled', changed_at = %(now)s
WHERE book = %(book)s AND client_order_id = %(id)s AND status IN ('open', 'partial')

-- name: follow
-- What the fill kernel did to the orders: their fills, and their ends as the ledger has them.
UPDATE venue_orders v
SET filled_e6 = o.filled_e6, status = o.venue_status, changed_at = %(now)s
FROM (SELECT client_order_id, filled_e6,
             CASE WHEN status IN ('FILLED', 'CANCELED', 'EXPIRED') THEN lower(status)
                  WHEN status IN ('REJECTED', 'VOIDED', 'NOT_SENT') THEN 'canceled'
                  WHEN filled_e6 <> 0 THEN 'partial' ELSE 'open' END AS venue_status
      FROM orders WHERE book = %(book)s) o
WHERE v.book = %(book)s AND v.client_order_id = o.client_order_id AND v.status IN ('open', 'partial')
  AND (v.filled_e6, v.status) IS DISTINCT FROM (o.filled_e6, o.venue_status)

-- name: state
SELECT bar_end_at, cash_e4, equity_e4 FROM book_states WHERE book = %s ORDER BY bar_end_at DESC LIMIT 1

-- name: positions
SELECT s.symbol, p.qty_e6, p.mark_e4, coalesce(l.cost_e4, 0)::bigint
FROM book_positions p
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = p.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
LEFT JOIN LATERAL (SELECT sum(cost_e4) AS cost_e4 FROM book_lots x WHERE x.book = p.book
                   AND x.bar_end_at = p.bar_end_at AND x.instrument_id = p.instrument_id) l ON true
WHERE p.book = %s AND p.bar_end_at = %s AND p.qty_e6 <> 0 ORDER BY s.symbol

-- name: symbol
SELECT i.qty_step_e6 FROM instrument_symbols s JOIN instruments i USING (instrument_id)
WHERE s.symbol = %(symbol)s AND i.calendar = %(calendar)s AND s.valid_from <= %(day)s
  AND (s.valid_to IS NULL OR s.valid_to > %(day)s)

-- name: fills_after
SELECT f.bar_end_at, f.fill_no, f.fill_id, f.client_order_id, s.symbol, f.qty_e6, f.price_e4, f.fee_e4
FROM fills f
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = f.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE f.book = %s AND (f.bar_end_at, f.fill_no) > (%s, %s)
ORDER BY f.bar_end_at, f.fill_no
