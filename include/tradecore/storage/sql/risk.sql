-- name: put_measures
INSERT INTO portfolio_risk (book, bar_end_at, session_date, measures)
VALUES (%(book)s, %(bar_end)s, %(session)s, %(measures)s)
ON CONFLICT (book, bar_end_at) DO UPDATE SET measures = EXCLUDED.measures
WHERE portfolio_risk.measures IS DISTINCT FROM EXCLUDED.measures

-- name: measures
SELECT session_date, measures FROM portfolio_risk WHERE book = %(book)s AND bar_end_at = %(bar_end)s

-- name: measured
-- Each session's forecast beside the return of the next one, oldest first.
SELECT p.session_date, p.measures, n.session_date AS next_session, n.equity_e4, n.prev_session_equity_e4
FROM portfolio_risk p
JOIN LATERAL (SELECT session_date, equity_e4, prev_session_equity_e4 FROM book_states s
              WHERE s.book = p.book AND s.bar_end_at > p.bar_end_at ORDER BY s.bar_end_at LIMIT 1) n ON true
WHERE p.book = %(book)s ORDER BY p.bar_end_at
