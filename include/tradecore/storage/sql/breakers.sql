-- name: ordered
-- The newest state that was ordered, by whom, in force or for the next bar.
SELECT to_state, actor FROM state_events
WHERE book = %(book)s AND actor <> 'breaker' AND bar_end_at <= %(until)s ORDER BY bar_end_at DESC, event_no DESC LIMIT 1

-- name: said
SELECT to_state FROM state_events WHERE book = %s AND bar_end_at = %s AND actor = %s ORDER BY event_no DESC LIMIT 1

-- name: slippage
-- Mean slippage of the newest fills against their bar's open, in bps of the open's notional, and how many there are.
SELECT sum(qty_e6::numeric * (price_e4 - open_price_e4)) / nullif(sum(abs(qty_e6)::numeric * open_price_e4), 0) * 10000,
       count(*)
FROM (SELECT qty_e6, price_e4, open_price_e4 FROM fills
      WHERE book = %(book)s AND bar_end_at <= %(bar_end)s AND open_price_e4 > 0
      ORDER BY bar_end_at DESC, fill_no DESC LIMIT %(fills)s) f

-- name: orders
-- Of the newest orders that were sent: how many, and how many were rejected or in doubt at some time.
SELECT count(*), count(*) FILTER (WHERE bad)
FROM (SELECT EXISTS (SELECT 1 FROM order_events e WHERE e.client_order_id = i.client_order_id
                     AND e.status IN ('REJECTED', 'UNKNOWN')) AS bad
      FROM intents i
      WHERE i.book = %(book)s AND i.bar_end_at <= %(bar_end)s
        AND EXISTS (SELECT 1 FROM order_events e WHERE e.client_order_id = i.client_order_id AND e.status = 'SUBMITTING')
      ORDER BY i.bar_end_at DESC, i.line_no DESC LIMIT %(orders)s) o

-- name: turnover
-- The turnover of this bar's newest decision, and the median of the last 60 that traded; NULL before there are 20.
SELECT (SELECT turnover_ppm FROM risk_snapshots WHERE book = %(book)s AND bar_end_at = %(bar_end)s
        ORDER BY version DESC LIMIT 1),
       CASE WHEN count(*) >= 20 THEN percentile_cont(0.5) WITHIN GROUP (ORDER BY turnover_ppm) END
FROM (SELECT DISTINCT ON (bar_end_at) bar_end_at, turnover_ppm FROM risk_snapshots
      WHERE book = %(book)s AND bar_end_at < %(bar_end)s AND turnover_ppm > 0
      ORDER BY bar_end_at DESC, version DESC LIMIT 60) t

-- name: losing_sessions
-- How many sessions up to this one lost, in a row.
WITH days AS (
    SELECT DISTINCT ON (session_date) session_date, equity_e4 < prev_session_equity_e4 AS lost
    FROM book_states WHERE book = %(book)s AND bar_end_at <= %(bar_end)s
    ORDER BY session_date DESC, bar_end_at DESC LIMIT 400
)
SELECT count(*) FROM days
WHERE session_date > coalesce((SELECT max(session_date) FROM days WHERE NOT lost), '-infinity'::date)

-- name: open_breaks
SELECT count(*) FROM breaks WHERE book = %(book)s AND status = 'open'

-- name: decided
-- Whether the bars before this one had a decision, the newest first.
SELECT EXISTS (SELECT 1 FROM decisions d WHERE d.book = r.book AND d.bar_end_at = r.bar_end_at)
FROM bar_runs r WHERE r.book = %(book)s AND r.bar_end_at < %(bar_end)s ORDER BY r.bar_end_at DESC LIMIT 60
