-- name: entry
-- The bracket's own order, of legs: their parent, or the parent of the order of ours that stands in the legs' place.
SELECT coalesce(j.client_order_id, e.client_order_id, i.client_order_id)
FROM broker_orders o
LEFT JOIN broker_orders e ON e.account = o.account AND e.broker_order_id = o.parent_id
LEFT JOIN broker_orders f ON f.account = e.account AND f.broker_order_id = e.parent_id
LEFT JOIN intents i ON i.client_order_id = o.client_order_id
LEFT JOIN intents j ON j.client_order_id = f.client_order_id
WHERE o.broker_order_id = ANY(%(ids)s)
ORDER BY j.client_order_id NULLS LAST, o.broker_order_id LIMIT 1

-- name: add_lift
-- Once for the same legs and sell: a process that was killed before they ended says it again.
INSERT INTO book_events (book, bar_end_at, event_no, kind, instrument_id, amount, detail)
SELECT %(book)s, %(bar_end)s, coalesce(max(event_no), 0) + 1, 'stop_lifted', %(instrument)s, %(amount)s, %(detail)s::text
FROM book_events WHERE book = %(book)s AND bar_end_at = %(bar_end)s
HAVING NOT coalesce(bool_or(CASE WHEN kind = 'stop_lifted' THEN
    (detail::jsonb -> 'for', detail::jsonb -> 'legs') = (%(detail)s::text::jsonb -> 'for', %(detail)s::text::jsonb -> 'legs')
    ELSE false END), false)

-- name: lifts
-- Lifted stops of names that have been held ever since, in the same units: neither the book's nor, from a split of the
-- session that comes, the venue's are others.
SELECT e.instrument_id, s.symbol, e.amount, e.detail
FROM book_events e
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = e.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
JOIN book_positions h ON h.book = e.book AND h.bar_end_at = %(bar_end)s AND h.instrument_id = e.instrument_id
                     AND h.qty_e6 > 0
WHERE e.book = %(book)s AND e.kind = 'stop_lifted' AND e.bar_end_at <= %(bar_end)s
  AND NOT EXISTS (SELECT 1 FROM book_events x WHERE x.book = e.book AND x.instrument_id = e.instrument_id
                  AND x.kind = 'split' AND x.bar_end_at > e.bar_end_at AND x.bar_end_at <= %(bar_end)s)
  AND NOT EXISTS (SELECT 1 FROM book_states b
                  LEFT JOIN book_positions p ON p.book = b.book AND p.bar_end_at = b.bar_end_at
                                            AND p.instrument_id = e.instrument_id
                  WHERE b.book = e.book AND b.bar_end_at > e.bar_end_at AND b.bar_end_at <= %(bar_end)s
                    AND coalesce(p.qty_e6, 0) = 0)
  AND NOT EXISTS (SELECT 1 FROM corporate_actions c
                  JOIN books k ON k.book = e.book AND k.source = c.source
                  JOIN book_states t ON t.book = e.book AND t.bar_end_at = %(bar_end)s
                  WHERE c.instrument_id = e.instrument_id AND c.kind IN ('split', 'stock_dividend')
                    AND c.ratio_num <> c.ratio_den AND c.ex_date > t.session_date AND c.ex_date <= %(due)s
                    AND NOT c.withdrawn AND c.known_at = (
                        SELECT max(known_at) FROM corporate_actions n WHERE n.instrument_id = c.instrument_id
                          AND n.ex_date = c.ex_date AND n.kind = c.kind AND n.source = c.source))
ORDER BY e.bar_end_at DESC, e.event_no

-- name: sell
SELECT o.status, abs(o.order_qty_e6), coalesce((SELECT max(abs(b.filled_qty)) FROM broker_orders b
                                                WHERE b.client_order_id = o.client_order_id AND b.book = o.book), 0)
FROM orders o WHERE o.client_order_id = %(id)s

-- name: placed
-- What took the place of a sell's legs. Not what never got to the venue, but for what a person ended, and for what was
-- refused in this bar: the same is not asked again before the next one.
SELECT coalesce(parent_id, ''), abs(order_qty_e6) FROM orders
WHERE leg > 0 AND oco_group = %(id)s
  AND (status NOT IN ('VOIDED', 'NOT_SENT', 'REJECTED')
       OR (status = 'NOT_SENT' AND status_detail LIKE 'canceled by %%')
       OR (bar_end_at = %(bar_end)s AND status IN ('NOT_SENT', 'REJECTED')
           AND status_detail NOT LIKE 'planned anew%%'))

-- name: stops_coming
-- Stops that are planned or in doubt: not at the venue as far as we know, and perhaps there soon.
SELECT client_order_id, abs(order_qty_e6) FROM orders
WHERE book = %(book)s AND instrument_id = %(instrument)s AND leg > 0
  AND status IN ('PLANNED', 'APPROVED', 'SUBMITTING', 'UNKNOWN')

-- name: epoch
SELECT count(*) FROM intents WHERE book = %s AND bar_end_at = %s AND instrument_id = %s AND leg > 0

-- name: add_intent
INSERT INTO intents (client_order_id, book, account, bar_end_at, version, instrument_id, leg, epoch, line_no,
    order_qty_e6, order_type, time_in_force, remainder, limit_price_e4, stop_price_e4, stop_loss_e4, parent_id,
    oco_group, ref_price_e4, next_bar_end_at, reason)
VALUES (%(id)s, %(book)s, %(account)s, %(bar_end)s, %(version)s, %(instrument)s, %(leg)s, %(epoch)s, %(line)s,
        %(qty)s, %(type)s, 'gtc', 'carry', %(limit)s, %(stop)s, %(stop_loss)s, %(entry)s,
        %(sell)s, %(ref)s, %(next)s, %(reason)s)

-- name: stops
SELECT o.client_order_id, s.symbol, o.instrument_id, o.order_qty_e6, o.order_type, o.time_in_force, o.limit_price_e4,
       o.stop_price_e4, o.stop_loss_e4, o.ref_price_e4, o.status
FROM orders o
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = o.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE o.book = %s AND o.bar_end_at = %s AND o.leg > 0 AND o.status IN ('PLANNED', 'APPROVED', 'UNKNOWN')
ORDER BY o.line_no, o.client_order_id

-- name: left_behind
SELECT client_order_id, status FROM orders
WHERE book = %s AND bar_end_at < %s AND leg > 0 AND status IN ('PLANNED', 'APPROVED', 'UNKNOWN')
ORDER BY client_order_id

-- name: held_symbols
SELECT s.symbol, p.qty_e6
FROM book_positions p
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = p.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE p.book = %s AND p.bar_end_at = %s AND p.qty_e6 > 0

-- name: working
-- What worked at the venue when it was last looked at; of an order of ours its parent is not what it pairs with. The flag:
-- a take-profit of ours beside which a stop has ended. (A leg that was just placed is not known before the next look.)
SELECT o.broker_order_id, o.client_order_id, o.symbol, o.qty, o.filled_qty, o.status, o.order_type, o.time_in_force,
       CASE WHEN i.client_order_id IS NULL THEN o.parent_id END,
       NOT o.adopted AND o.parent_id IS NOT NULL AND EXISTS (
           SELECT 1 FROM broker_orders x WHERE x.account = o.account AND x.status IN ('canceled', 'expired', 'rejected')
             AND x.order_type IN ('stop', 'stop_limit', 'trailing_stop')
             AND x.parent_id = CASE WHEN i.client_order_id IS NULL THEN o.parent_id ELSE o.broker_order_id END)
FROM broker_orders o
LEFT JOIN intents i ON i.client_order_id = o.client_order_id
WHERE o.book = %s AND o.account = %s AND o.status IN ('pending', 'open', 'partial', 'pending_cancel', 'pending_replace')
ORDER BY o.broker_order_id

-- name: lost
-- 'lost': stops of ours that ended at the venue with shares left that they protected, and not for a sell of ours; no
-- more than the entry bought, less what the other order of the pair sold; the name has been held ever since. The flag:
-- it has split since then, the shares are others. 'told': names whose newest alert says that they have none.
SELECT 'lost', o.symbol,
       CASE WHEN e.qty > 0 THEN least(abs(o.qty), abs(e.filled_qty)) ELSE abs(o.qty) END - abs(o.filled_qty)
       - CASE WHEN e.qty < 0 THEN abs(e.filled_qty)
              WHEN EXISTS (SELECT 1 FROM intents i WHERE i.client_order_id = o.client_order_id) THEN 0
              ELSE (SELECT coalesce(sum(abs(x.filled_qty)), 0) FROM broker_orders x
                    WHERE x.account = o.account AND x.parent_id = e.broker_order_id AND x.qty < 0
                      AND x.broker_order_id <> o.broker_order_id
                      AND NOT EXISTS (SELECT 1 FROM intents i WHERE i.client_order_id = x.client_order_id)) END,
       EXISTS (SELECT 1 FROM book_events v JOIN instrument_symbols s USING (instrument_id)
               WHERE v.book = o.book AND v.kind = 'split' AND s.symbol = o.symbol AND v.bar_end_at >= o.changed_at)
FROM broker_orders o
JOIN broker_orders e ON e.account = o.account AND e.broker_order_id = o.parent_id
WHERE o.book = %(book)s AND o.account = %(account)s AND NOT o.adopted AND o.qty < 0
  AND o.order_type IN ('stop', 'stop_limit', 'trailing_stop') AND o.status IN ('canceled', 'expired', 'rejected')
  AND NOT EXISTS (SELECT 1 FROM book_events l WHERE l.book = o.book AND l.kind = 'stop_lifted'
                  AND strpos(l.detail, o.broker_order_id) > 0)
  AND NOT EXISTS (SELECT 1 FROM book_states b WHERE b.book = o.book AND b.bar_end_at >= o.changed_at
                    AND NOT EXISTS (SELECT 1 FROM book_positions p JOIN instrument_symbols s USING (instrument_id)
                                    WHERE p.book = b.book AND p.bar_end_at = b.bar_end_at AND p.qty_e6 > 0
                                      AND s.symbol = o.symbol))
UNION ALL
SELECT 'told', t.symbol, 0, false
FROM (SELECT DISTINCT ON (substring(dedup_key FROM '[^:]+$')) substring(dedup_key FROM '[^:]+$') AS symbol, kind
      FROM alerts WHERE book = %(book)s AND kind IN ('unprotected', 'protected')
      ORDER BY substring(dedup_key FROM '[^:]+$'), alert_id DESC) t
WHERE t.kind = 'unprotected'
