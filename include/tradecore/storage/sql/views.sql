-- name: last_state
SELECT bar_end_at, session_date, cash_e4, equity_e4, peak_equity_e4, prev_session_equity_e4, realised_e4, fees_e4,
       dividends_e4, trading_state, state_hash
FROM book_states WHERE book = %(book)s AND (%(session)s::date IS NULL OR session_date = %(session)s)
ORDER BY bar_end_at DESC LIMIT 1

-- name: positions
SELECT s.symbol, p.qty_e6, p.mark_e4, p.stale_bars
FROM book_positions p
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = p.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE p.book = %(book)s AND p.bar_end_at = %(bar_end)s AND p.qty_e6 <> 0 ORDER BY s.symbol

-- name: signals
SELECT g.strategy, s.symbol, g.score
FROM signals g
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = g.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE g.book = %(book)s AND g.bar_end_at = %(bar_end)s ORDER BY g.strategy, s.symbol

-- name: targets
SELECT s.symbol, t.qty_e6, t.weight_ppm
FROM targets t
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = t.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE t.book = %(book)s AND t.bar_end_at = %(bar_end)s AND t.qty_e6 <> 0
  AND t.version = (SELECT max(version) FROM decisions d WHERE d.book = t.book AND d.bar_end_at = t.bar_end_at)
ORDER BY s.symbol

-- name: orders
SELECT s.symbol, o.order_qty_e6, o.ref_price_e4, o.status, o.client_order_id
FROM orders o
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = o.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE o.book = %(book)s AND o.bar_end_at = %(bar_end)s AND o.status <> 'VOIDED' ORDER BY o.line_no

-- name: fills
SELECT s.symbol, f.qty_e6, f.price_e4, f.fee_e4
FROM fills f
JOIN LATERAL (SELECT symbol FROM instrument_symbols x WHERE x.instrument_id = f.instrument_id
              ORDER BY valid_from DESC LIMIT 1) s ON true
WHERE f.book = %(book)s AND f.bar_end_at = %(bar_end)s ORDER BY f.fill_no

-- name: quality
SELECT rows_checked, rows_failed, members_due, members_seen, coverage_frac, gate_open, gate_reason
FROM quality_results q JOIN books b ON b.source = q.source AND b.timeframe = q.timeframe AND b.universe = q.universe
WHERE b.book = %(book)s AND q.bar_end_at = %(bar_end)s ORDER BY checked_at DESC LIMIT 1

-- name: report
SELECT path FROM reports WHERE book = %(book)s AND bar_end_at = %(bar_end)s
