-- name: changed_terms
-- Actions that went ex on bars which had settled, of which another version is in force than when the last bar read them,
-- with what the book held before them. Terms: ratio and amount, 1:1 and 0 for none.
SELECT n.instrument_id, n.ex_date, n.kind, p.qty_e6,
       CASE WHEN o.withdrawn IS NOT FALSE THEN 1 ELSE o.ratio_num END,
       CASE WHEN o.withdrawn IS NOT FALSE THEN 1 ELSE o.ratio_den END,
       CASE WHEN o.withdrawn IS NOT FALSE THEN 0 ELSE o.dividend_e6 END,
       CASE WHEN n.withdrawn THEN 1 ELSE n.ratio_num END,
       CASE WHEN n.withdrawn THEN 1 ELSE n.ratio_den END,
       CASE WHEN n.withdrawn THEN 0 ELSE n.dividend_e6 END,
       coalesce((SELECT sum(c.qty_e6 - c.qty_before_e6) FROM book_corrections c
                 WHERE c.book = %(book)s AND c.instrument_id = n.instrument_id AND c.ex_date < n.ex_date
                   AND c.bar_end_at > before.bar_end_at), 0)::bigint
FROM (SELECT DISTINCT ON (instrument_id, ex_date, kind) * FROM corporate_actions
      WHERE source = %(source)s AND kind IN ('split', 'stock_dividend', 'dividend') AND ex_date <= %(until)s
        AND known_at <= coalesce(%(as_of)s::timestamptz, 'infinity')
      ORDER BY instrument_id, ex_date, kind, known_at DESC) n
JOIN books b ON b.book = %(book)s
JOIN book_states last ON last.book = b.book AND last.bar_end_at = %(previous)s
LEFT JOIN LATERAL (SELECT * FROM corporate_actions o
                   WHERE o.instrument_id = n.instrument_id AND o.ex_date = n.ex_date AND o.kind = n.kind
                     AND o.source = n.source AND o.known_at <= last.as_of
                   ORDER BY known_at DESC LIMIT 1) o ON true
JOIN LATERAL (SELECT bar_end_at FROM book_states s WHERE s.book = b.book AND s.session_date >= n.ex_date
                AND s.bar_end_at > b.inception_at
              ORDER BY bar_end_at LIMIT 1) ex ON true
JOIN LATERAL (SELECT bar_end_at FROM book_states s WHERE s.book = b.book AND s.bar_end_at < ex.bar_end_at
                AND s.session_date < n.ex_date
              ORDER BY bar_end_at DESC LIMIT 1) before ON true
JOIN book_positions p ON p.book = b.book AND p.bar_end_at = before.bar_end_at AND p.instrument_id = n.instrument_id
WHERE n.known_at > last.as_of  -- NULL: nobody wrote down what that bar read
ORDER BY n.ex_date, n.instrument_id, n.kind DESC  -- a split before a dividend of its day, as in a bar

-- name: add_correction
INSERT INTO book_corrections (book, bar_end_at, correction_no, instrument_id, ex_date, kind, entitled_e6, qty_before_e6,
                              qty_e6, cash_e4, terms_before, terms)
VALUES (%(book)s, %(bar_end)s, %(number)s, %(instrument_id)s, %(ex_date)s, %(kind)s, %(entitled_e6)s, %(before_e6)s,
        %(after_e6)s, %(cash_e4)s, %(terms_before)s, %(terms)s)

-- name: corrections
SELECT instrument_id, ex_date, kind, entitled_e6, qty_before_e6, qty_e6, cash_e4, terms_before, terms
FROM book_corrections WHERE book = %s AND bar_end_at = %s ORDER BY correction_no
