-- name: ledger_positions
SELECT p.instrument_id, s.symbol, p.qty_e6
FROM book_positions p
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = p.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE p.book = %s AND p.bar_end_at = %s AND p.qty_e6 <> 0

-- name: unbooked_fills
SELECT fill_id, symbol, qty, price, fee, filled_at FROM broker_fills
WHERE book = %s AND account = %s AND booked_bar_end_at IS NULL ORDER BY filled_at, sign(qty) DESC, fill_id

-- name: unbooked_cash
-- What the broker has booked and a later settle will: dividends of a live account are the ledger's by the feed.
SELECT coalesce(sum(amount), 0) FROM broker_activities
WHERE book = %(book)s AND account = %(account)s AND booked_bar_end_at IS NULL
  AND (kind IN ('fee', 'interest', 'transfer') OR (kind = 'dividend' AND %(paper)s))

-- name: explained
SELECT kind, subject, sum(amount) FROM explained_differences WHERE book = %s AND bar_end_at <= %s
GROUP BY kind, subject

-- name: working_symbols
-- Orders that may still move a symbol's position: ours (their ids), or adopted.
SELECT s.symbol, o.client_order_id, false
FROM orders o
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = o.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE o.book = %(book)s AND o.status IN ('SUBMITTING', 'UNKNOWN', 'ACKED', 'PARTIAL')
UNION ALL
SELECT symbol, client_order_id, true FROM broker_orders
WHERE book = %(book)s AND adopted AND (changed_at >= %(since)s OR status IN
    ('pending', 'open', 'partial', 'pending_cancel', 'pending_replace'))

-- name: splits
-- Ratios in force of the sessions that a venue may have one day earlier or later than we have.
SELECT s.symbol, a.ex_date, a.ratio_num, a.ratio_den
FROM (SELECT DISTINCT ON (instrument_id, ex_date, kind) * FROM corporate_actions
      WHERE kind IN ('split', 'stock_dividend') AND source = %s AND ex_date = ANY(%s)
      ORDER BY instrument_id, ex_date, kind, known_at DESC) a
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = a.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE NOT a.withdrawn

-- name: dividends_booked
-- Dividends that became cash in the ledger since a session; a receivable that was paid, or one without a later pay day.
SELECT s.symbol, b.session_date, sum(e.amount)::bigint
FROM book_events e
JOIN book_states b USING (book, bar_end_at)
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = e.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE e.book = %(book)s AND b.session_date >= %(since)s AND e.bar_end_at <= %(bar_end)s
  AND (e.kind IN ('dividend_paid_on_ex_date', 'receivable_paid')
       OR (e.kind = 'dividend' AND EXISTS (SELECT 1 FROM corporate_actions a
           WHERE a.instrument_id = e.instrument_id AND a.kind = 'dividend' AND a.ex_date = b.session_date
             AND a.pay_date <= b.session_date)))
GROUP BY s.symbol, b.session_date

-- name: dividends_received
SELECT symbol, effective_on, sum(amount) FROM broker_activities
WHERE book = %s AND account = %s AND kind = 'dividend' AND effective_on >= %s GROUP BY symbol, effective_on

-- name: receivables_due
SELECT s.symbol, r.amount_e4 FROM book_receivables r
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = r.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE r.book = %s AND r.bar_end_at = %s

-- name: accounting
-- The ledger's own entries added up anew: what cash, fees and dividends should be after this bar.
SELECT c.amount - f.spent + d.amount - r.amount + e.in_lieu + e.charges AS cash_e4,
       f.fees - e.charges AS fees_e4, d.amount AS dividends_e4
FROM (SELECT coalesce(sum(amount_e4), 0) AS amount FROM cash_events
      WHERE book = %(book)s AND bar_end_at <= %(bar_end)s) c,
     (SELECT coalesce(sum(sign(qty_e6) * coalesce(notional_e4, round(abs(qty_e6)::numeric * price_e4 / 1000000))
                          + fee_e4), 0) AS spent, coalesce(sum(fee_e4), 0) AS fees
      FROM fills WHERE book = %(book)s AND bar_end_at <= %(bar_end)s) f,
     (SELECT coalesce(sum(amount), 0) AS amount FROM book_events
      WHERE book = %(book)s AND bar_end_at <= %(bar_end)s AND kind IN ('dividend', 'dividend_paid_on_ex_date')) d,
     (SELECT coalesce(sum(amount_e4), 0) AS amount FROM book_receivables
      WHERE book = %(book)s AND bar_end_at = %(bar_end)s) r,
     (SELECT coalesce(sum(amount) FILTER (WHERE kind IN ('cash_in_lieu', 'delisted')), 0) AS in_lieu,
             coalesce(sum(amount) FILTER (WHERE kind = 'charge'), 0) AS charges
      FROM book_events WHERE book = %(book)s AND bar_end_at <= %(bar_end)s) e

-- name: accounted_positions
-- Each quantity added up anew, from the last split on (it names the quantity after it), from the delisting (after which
-- there is none) or from the opening, with the quantity, lots and allocations that the ledger has.
SELECT s.symbol, coalesce(x.qty, o.qty_e6, 0) + coalesce(f.qty, 0), coalesce(p.qty_e6, 0),
       coalesce(l.qty, 0), coalesce(a.qty, 0)
FROM (SELECT instrument_id FROM fills WHERE book = %(book)s AND bar_end_at <= %(bar_end)s
      UNION SELECT instrument_id FROM book_positions WHERE book = %(book)s AND bar_end_at = %(bar_end)s
      UNION SELECT p.instrument_id FROM book_positions p JOIN books b ON b.book = p.book AND p.bar_end_at = b.inception_at
      WHERE b.book = %(book)s) i
JOIN LATERAL (SELECT symbol FROM instrument_symbols y WHERE y.instrument_id = i.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
JOIN books k ON k.book = %(book)s
LEFT JOIN LATERAL (SELECT bar_end_at, CASE WHEN kind = 'split' THEN amount ELSE 0 END AS qty FROM book_events e
                   WHERE e.book = k.book AND e.kind IN ('split', 'delisted')
                   AND e.instrument_id = i.instrument_id AND e.bar_end_at <= %(bar_end)s
                   ORDER BY bar_end_at DESC, event_no DESC LIMIT 1) x ON true
LEFT JOIN book_positions o ON o.book = k.book AND o.bar_end_at = k.inception_at AND o.instrument_id = i.instrument_id
LEFT JOIN LATERAL (SELECT sum(qty_e6) AS qty FROM fills g WHERE g.book = k.book AND g.instrument_id = i.instrument_id
                   AND g.bar_end_at <= %(bar_end)s AND g.bar_end_at >= coalesce(x.bar_end_at, k.inception_at)) f ON true
LEFT JOIN book_positions p ON p.book = k.book AND p.bar_end_at = %(bar_end)s AND p.instrument_id = i.instrument_id
LEFT JOIN LATERAL (SELECT sum(qty_e6) AS qty FROM book_lots b WHERE b.book = k.book AND b.bar_end_at = %(bar_end)s
                   AND b.instrument_id = i.instrument_id) l ON true
LEFT JOIN LATERAL (SELECT sum(qty_e6) AS qty FROM book_allocations b WHERE b.book = k.book
                   AND b.bar_end_at = %(bar_end)s AND b.instrument_id = i.instrument_id) a ON true

-- name: add_reconciliation
INSERT INTO reconciliations (book, bar_end_at, phase, run_no, comparable, clean, detail, looked_at)
SELECT %(book)s, %(bar_end)s, %(phase)s, coalesce(max(run_no), 0) + 1, %(comparable)s, %(clean)s, %(detail)s, %(now)s
FROM reconciliations WHERE book = %(book)s AND bar_end_at = %(bar_end)s AND phase = %(phase)s

-- name: newest
SELECT comparable, clean FROM reconciliations WHERE book = %s AND bar_end_at = %s
ORDER BY looked_at DESC, run_no DESC LIMIT 1

-- name: open_break
-- A difference is one break as long as it is open, with what was last seen of it.
INSERT INTO breaks (book, kind, subject, ledger_value, broker_value, cause, status, opened_bar_end_at, opened_at)
VALUES (%(book)s, %(kind)s, %(subject)s, %(ledger)s, %(broker)s, %(cause)s, 'open', %(bar_end)s, %(now)s)
ON CONFLICT (book, kind, subject) WHERE status = 'open'
DO UPDATE SET ledger_value = excluded.ledger_value, broker_value = excluded.broker_value, cause = excluded.cause
WHERE (breaks.ledger_value, breaks.broker_value, breaks.cause)
      IS DISTINCT FROM (excluded.ledger_value, excluded.broker_value, excluded.cause)
RETURNING break_id, xmax = 0

-- name: accepted
-- Those whose difference cannot be a number in a sum: they stay accepted as long as they are the same.
SELECT kind, subject, ledger_value, broker_value FROM breaks
WHERE book = %s AND status = 'accepted' AND kind IN ('order', 'fill', 'accounting')

-- name: open_breaks
SELECT break_id, kind, subject, ledger_value, broker_value, cause, owner, opened_bar_end_at, opened_at
FROM breaks WHERE book = %s AND status = 'open' ORDER BY break_id

-- name: resolve_break
UPDATE breaks SET status = 'resolved', closed_by = 'reconcile', closed_reason = 'agrees again', closed_at = %s
WHERE break_id = %s

-- name: break_for_update
SELECT book, kind, subject, ledger_value, broker_value, status FROM breaks WHERE break_id = %s FOR UPDATE

-- name: accept_break
UPDATE breaks SET status = 'accepted', closed_by = %(by)s, closed_reason = %(reason)s, closed_at = %(now)s
WHERE break_id = %(id)s

-- name: own_break
UPDATE breaks SET owner = %s WHERE break_id = %s AND status = 'open'
