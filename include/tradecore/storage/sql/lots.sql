-- name: open_lots
SELECT s.symbol, l.lot_no, l.qty_e6, l.cost_e4, l.opened_ns
FROM book_lots l
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = l.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE l.book = %(book)s AND l.bar_end_at = %(bar_end)s ORDER BY s.symbol, l.lot_no

-- name: adopted
-- Lots that the book was opened with.
SELECT l.instrument_id, l.qty_e6, l.cost_e4, l.opened_ns FROM book_lots l
JOIN books b ON b.book = l.book AND b.inception_at = l.bar_end_at
WHERE l.book = %(book)s ORDER BY l.instrument_id, l.lot_no

-- name: moves
-- What moved lots, in the order of the ledger: corrections, then a bar's splits and delistings, then its fills. NULL
-- ratio: a fill, or a delisting.
SELECT bar_end_at, instrument_id, qty_e6, notional_e4, ratio_num, ratio_den
FROM (SELECT f.bar_end_at, 1 AS part, f.fill_no AS number, f.instrument_id, f.qty_e6,
             coalesce(f.notional_e4, round(abs(f.qty_e6)::numeric * f.price_e4 / 1000000))::bigint AS notional_e4,
             NULL::bigint AS ratio_num, NULL::bigint AS ratio_den
      FROM fills f WHERE f.book = %(book)s AND f.bar_end_at <= %(bar_end)s
      UNION ALL
      SELECT e.bar_end_at, 0, e.event_no, e.instrument_id, e.amount, 0, a.ratio_num, a.ratio_den
      FROM book_events e
      JOIN books b ON b.book = e.book
      JOIN book_states s ON s.book = e.book AND s.bar_end_at = e.bar_end_at
      JOIN LATERAL (SELECT session_date FROM book_states p WHERE p.book = e.book AND p.bar_end_at < e.bar_end_at
                    ORDER BY p.bar_end_at DESC LIMIT 1) p ON true
      JOIN LATERAL (SELECT ratio_num, ratio_den FROM corporate_actions c
                    WHERE c.instrument_id = e.instrument_id AND c.kind IN ('split', 'stock_dividend')
                      AND c.source = b.source AND c.ex_date > p.session_date AND c.ex_date <= s.session_date
                      AND c.known_at <= coalesce(s.as_of, 'infinity') AND NOT c.withdrawn
                    ORDER BY c.ex_date DESC, c.known_at DESC LIMIT 1) a ON true
      WHERE e.book = %(book)s AND e.kind = 'split' AND e.bar_end_at <= %(bar_end)s
      UNION ALL
      SELECT bar_end_at, -1, correction_no, instrument_id, qty_e6, 0, abs(qty_e6), abs(qty_before_e6)
      FROM book_corrections WHERE book = %(book)s AND bar_end_at <= %(bar_end)s AND qty_e6 <> qty_before_e6
      UNION ALL
      SELECT bar_end_at, 0, event_no, instrument_id, -substring(detail FROM '-?[0-9]+')::bigint, abs(amount), NULL, NULL
      FROM book_events WHERE book = %(book)s AND kind = 'delisted' AND bar_end_at <= %(bar_end)s) m
ORDER BY bar_end_at, part, number

-- name: symbols
SELECT DISTINCT ON (instrument_id) instrument_id, symbol FROM instrument_symbols WHERE instrument_id = ANY(%s)
ORDER BY instrument_id, valid_from DESC
