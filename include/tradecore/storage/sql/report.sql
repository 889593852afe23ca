-- Everything here is as of a bar: later events, fills and states do not change the report of an earlier one.

-- name: book
SELECT b.kind, b.account, b.timeframe, b.source, b.universe, s.session_date, s.cash_e4, s.equity_e4, s.peak_equity_e4,
       s.prev_session_equity_e4, s.realised_e4, s.fees_e4, s.dividends_e4, s.trading_state, s.state_sessions,
       s.ordered_state
FROM books b
JOIN book_states s ON s.book = b.book AND s.bar_end_at = %(bar_end)s
WHERE b.book = %(book)s

-- name: previous_state
SELECT bar_end_at, session_date, cash_e4, equity_e4, peak_equity_e4, realised_e4, fees_e4, dividends_e4, trading_state,
       state_sessions, ordered_state
FROM book_states WHERE book = %(book)s AND bar_end_at < %(bar_end)s ORDER BY bar_end_at DESC LIMIT 1

-- name: receivables
SELECT coalesce(sum(amount_e4), 0)::bigint AS amount_e4 FROM book_receivables
WHERE book = %(book)s AND bar_end_at = %(bar_end)s

-- name: equity
WITH ends AS (
    SELECT DISTINCT ON (session_date) session_date, bar_end_at, equity_e4
    FROM book_states WHERE book = %(book)s AND bar_end_at <= %(bar_end)s
    ORDER BY session_date, bar_end_at DESC
), flows AS (
    SELECT s.session_date, sum(c.amount_e4)::bigint AS flow_e4
    FROM cash_events c JOIN book_states s ON s.book = c.book AND s.bar_end_at = c.bar_end_at
    WHERE c.book = %(book)s AND c.kind <> 'opening' AND c.bar_end_at <= %(bar_end)s
    GROUP BY s.session_date
)
SELECT e.session_date, e.equity_e4, coalesce(f.flow_e4, 0)::bigint AS flow_e4
FROM ends e LEFT JOIN flows f ON f.session_date = e.session_date
ORDER BY e.session_date

-- name: flow
SELECT coalesce(sum(amount_e4), 0)::bigint AS amount_e4 FROM cash_events
WHERE book = %(book)s AND bar_end_at = %(bar_end)s AND kind <> 'opening'

-- name: symbols
SELECT DISTINCT ON (instrument_id) instrument_id, symbol
FROM instrument_symbols
ORDER BY instrument_id, (valid_from <= %(session)s AND (valid_to IS NULL OR %(session)s < valid_to)) DESC,
         valid_from DESC

-- name: positions
SELECT p.instrument_id, p.qty_e6, p.mark_e4, p.stale_bars, coalesce(l.cost_e4, 0)::bigint AS cost_e4
FROM book_positions p
LEFT JOIN (SELECT instrument_id, sum(cost_e4) AS cost_e4 FROM book_lots
           WHERE book = %(book)s AND bar_end_at = %(bar_end)s GROUP BY instrument_id) l USING (instrument_id)
WHERE p.book = %(book)s AND p.bar_end_at = %(bar_end)s

-- name: fills
-- A fill of an order placed by hand, or of a bracket's leg, was decided by nobody here: its own price and session.
SELECT f.instrument_id, f.qty_e6, f.price_e4, f.open_price_e4, f.fee_e4,
       coalesce(i.ref_price_e4, f.price_e4) AS ref_price_e4, coalesce(i.split_num, 1) AS split_num,
       coalesce(i.split_den, 1) AS split_den, d.session_date AS decided_on
FROM fills f
LEFT JOIN intents i USING (client_order_id)
JOIN book_states d ON d.book = f.book AND d.bar_end_at = coalesce(i.bar_end_at, f.bar_end_at)
WHERE f.book = %(book)s AND f.bar_end_at = %(bar_end)s
ORDER BY f.fill_no

-- name: splits
SELECT instrument_id, ex_date, ratio_num, ratio_den
FROM (SELECT DISTINCT ON (instrument_id, ex_date, kind) * FROM corporate_actions
      WHERE kind IN ('split', 'stock_dividend') AND source = %(source)s AND instrument_id = ANY(%(instruments)s)
        AND ex_date > %(after)s AND ex_date <= %(session)s
      ORDER BY instrument_id, ex_date, kind, known_at DESC) newest
WHERE NOT withdrawn

-- name: strategies
SELECT strategy AS name, ok, error FROM strategy_runs
WHERE book = %(book)s AND bar_end_at = %(bar_end)s ORDER BY strategy

-- name: signals
SELECT strategy, instrument_id, score FROM signals
WHERE book = %(book)s AND bar_end_at = %(bar_end)s ORDER BY strategy, instrument_id

-- name: decision
SELECT d.version, d.inputs_hash, d.data_hash, d.config_hash, d.code_hash, coalesce(d.sheet_hash, '') AS sheet_hash,
       r.turnover_ppm,
       (SELECT 'computed again, it differs from stage ' || stage || ' on' FROM day_proofs p
        WHERE p.book = d.book AND p.bar_end_at = d.bar_end_at AND p.verdict = 'different') AS proof
FROM decisions d
LEFT JOIN risk_snapshots r ON r.book = d.book AND r.bar_end_at = d.bar_end_at AND r.version = d.version
WHERE d.book = %(book)s AND d.bar_end_at = %(bar_end)s ORDER BY d.version DESC LIMIT 1

-- name: targets
SELECT instrument_id, weight_ppm, qty_e6, ref_price_e4, has_opinion FROM targets
WHERE book = %(book)s AND bar_end_at = %(bar_end)s AND version = %(version)s ORDER BY instrument_id

-- name: limit_events
SELECT rule, instrument_id, before_value, after_value, detail FROM risk_events
WHERE book = %(book)s AND bar_end_at = %(bar_end)s AND version = %(version)s ORDER BY event_no

-- name: risk
SELECT measures FROM portfolio_risk WHERE book = %(book)s AND bar_end_at = %(bar_end)s

-- name: sheet
SELECT i.*, e.status, e.detail AS status_detail, 0::bigint AS filled_e6
FROM intents i
JOIN LATERAL (SELECT status, detail FROM order_events o
              WHERE o.client_order_id = i.client_order_id AND o.bar_end_at <= %(bar_end)s
              ORDER BY event_no DESC LIMIT 1) e ON true
WHERE i.book = %(book)s AND i.bar_end_at = %(bar_end)s AND i.version = %(version)s AND i.leg = 0
ORDER BY i.line_no

-- name: worked
SELECT i.*, e.status, e.detail AS status_detail, coalesce(f.filled_e6, 0)::bigint AS filled_e6
FROM intents i
JOIN LATERAL (SELECT status, detail FROM order_events o
              WHERE o.client_order_id = i.client_order_id AND o.bar_end_at <= %(bar_end)s
              ORDER BY event_no DESC LIMIT 1) e ON true
LEFT JOIN LATERAL (SELECT sum(x.qty_e6) AS filled_e6 FROM fills x
                   WHERE x.client_order_id = i.client_order_id AND x.bar_end_at <= %(bar_end)s) f ON true
WHERE i.book = %(book)s AND i.bar_end_at < %(bar_end)s AND i.leg = 0
  AND (EXISTS (SELECT 1 FROM order_events o
               WHERE o.client_order_id = i.client_order_id AND o.bar_end_at = %(bar_end)s)
       OR EXISTS (SELECT 1 FROM book_working_orders w
                  WHERE w.book = i.book AND w.bar_end_at = %(bar_end)s AND w.client_order_id = i.client_order_id))
ORDER BY i.bar_end_at, i.line_no

-- name: quality
SELECT rows_checked, rows_failed, members_due, members_seen, coverage_frac, gate_open, gate_reason, suite_version,
       rows_warned, docs_path
FROM quality_results
WHERE source = %(source)s AND timeframe = %(timeframe)s AND universe = %(universe)s AND bar_end_at = %(bar_end)s
ORDER BY checked_at DESC, content_hash LIMIT 1

-- name: quarantine
SELECT symbol, expectation, message, record FROM quarantined_bars
WHERE source = %(source)s AND timeframe = %(timeframe)s AND session_date = %(session)s
ORDER BY symbol, expectation, record

-- name: warnings
SELECT DISTINCT ON (symbol, expectation, dup_no) symbol, severity, expectation, message FROM quality_findings
WHERE source = %(source)s AND timeframe = %(timeframe)s AND session_date = %(session)s AND suite_version = %(suite)s
ORDER BY symbol, expectation, dup_no

-- name: events
SELECT kind, instrument_id, amount, detail FROM book_events
WHERE book = %(book)s AND bar_end_at = %(bar_end)s ORDER BY event_no

-- name: state_events
SELECT from_state, to_state, actor, reason FROM state_events
WHERE book = %(book)s AND bar_end_at = %(bar_end)s ORDER BY event_no

-- name: run
SELECT r.outcome, coalesce(a.verdict, '') AS verdict, a.actor, a.decided_at, a.note
FROM bar_runs r
LEFT JOIN approvals a ON a.book = r.book AND a.bar_end_at = r.bar_end_at AND a.version = %(version)s
WHERE r.book = %(book)s AND r.bar_end_at = %(bar_end)s

-- name: steps
SELECT i.instrument_id, i.client_order_id, e.status, e.happened_at, e.detail
FROM intents i JOIN order_events e USING (client_order_id)
WHERE i.book = %(book)s AND i.bar_end_at = %(bar_end)s AND i.version = %(version)s AND e.bar_end_at <= %(bar_end)s
ORDER BY i.line_no, i.child, e.event_no

-- name: differences
SELECT kind, subject, broker_value - ledger_value AS amount, cause AS detail, false AS explained
FROM breaks WHERE book = %(book)s AND opened_bar_end_at = %(bar_end)s
UNION ALL
SELECT kind, subject, amount, detail, true FROM explained_differences
WHERE book = %(book)s AND bar_end_at = %(bar_end)s
ORDER BY explained, kind, subject

-- name: window
SELECT min(bar_end_at) AS first_at FROM (
    SELECT bar_end_at FROM book_states WHERE book = %(book)s AND bar_end_at <= %(bar_end)s
    ORDER BY bar_end_at DESC LIMIT %(bars)s) last_bars

-- name: traded
SELECT instrument_id, max(bar_end_at) AS last_at FROM fills
WHERE book = %(book)s AND bar_end_at BETWEEN %(first_at)s AND %(bar_end)s
GROUP BY instrument_id ORDER BY last_at DESC, instrument_id

-- name: candles
SELECT b.instrument_id, b.bar_end_at, b.session_date, b.open_e4, b.high_e4, b.low_e4, b.close_e4, b.volume, b.adj_factor
FROM unnest(%(instruments)s::integer[]) AS wanted (instrument_id)
JOIN LATERAL (SELECT * FROM bars x
              WHERE x.instrument_id = wanted.instrument_id AND x.timeframe = %(timeframe)s AND x.source = %(source)s
                AND x.bar_end_at <= %(bar_end)s AND x.session_date > %(session)s::date - 100  -- older history may come later
              ORDER BY x.bar_end_at DESC LIMIT %(bars)s) b ON true
ORDER BY b.instrument_id, b.bar_end_at

-- name: entries
SELECT instrument_id, bar_end_at, qty_e6, price_e4 FROM fills
WHERE book = %(book)s AND instrument_id = ANY(%(instruments)s) AND bar_end_at BETWEEN %(first_at)s AND %(bar_end)s
ORDER BY instrument_id, bar_end_at, fill_no
