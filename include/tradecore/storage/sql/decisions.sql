-- name: newest
SELECT version, inputs_hash, sheet_hash, data_hash, config_hash, code_hash, state_hash FROM decisions
WHERE book = %s AND bar_end_at = %s ORDER BY version DESC LIMIT 1

-- name: submitting
SELECT count(*) FROM order_events e JOIN intents i USING (client_order_id)
WHERE i.book = %s AND i.bar_end_at = %s AND i.leg = 0 -- a stop of what is kept is no line of the sheet
  AND e.status NOT IN ('PLANNED', 'APPROVED', 'VOIDED', 'NOT_SENT')

-- name: add
INSERT INTO decisions (book, bar_end_at, version, inputs_hash, data_hash, config_hash, code_hash, state_hash, as_of,
                       decided_at, manifest_hash)
VALUES (%(book)s, %(bar_end)s, %(version)s, %(inputs)s, %(data)s, %(config)s, %(code)s, %(state)s, %(as_of)s, %(now)s,
        %(manifest)s)

-- name: set_sheet
UPDATE decisions SET sheet_hash = %(sheet)s
WHERE book = %(book)s AND bar_end_at = %(bar_end)s AND version = %(version)s AND sheet_hash IS DISTINCT FROM %(sheet)s

-- name: void_approvals
UPDATE approvals SET verdict = 'voided' WHERE book = %s AND bar_end_at = %s AND version < %s AND verdict <> 'voided'

-- name: open_intents_before
SELECT client_order_id FROM orders
WHERE book = %s AND bar_end_at = %s AND version < %s AND leg = 0 AND status IN ('PLANNED', 'APPROVED')

-- name: add_signal
INSERT INTO signals (book, bar_end_at, strategy, instrument_id, score) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (book, bar_end_at, strategy, instrument_id) DO UPDATE SET score = excluded.score
WHERE signals.score IS DISTINCT FROM excluded.score

-- name: add_strategy_run
INSERT INTO strategy_runs (book, bar_end_at, strategy, ok, error, score_hash, data_hash)
VALUES (%(book)s, %(bar_end)s, %(strategy)s, %(ok)s, %(error)s, %(hash)s, %(data)s)
ON CONFLICT (book, bar_end_at, strategy) DO UPDATE
SET ok = excluded.ok, error = excluded.error, score_hash = excluded.score_hash, data_hash = excluded.data_hash
WHERE (strategy_runs.ok, strategy_runs.error, strategy_runs.score_hash, strategy_runs.data_hash)
      IS DISTINCT FROM (excluded.ok, excluded.error, excluded.score_hash, excluded.data_hash)

-- name: signals
SELECT strategy, instrument_id, score FROM signals WHERE book = %s AND bar_end_at = %s

-- name: strategy_runs
SELECT strategy, ok, error, score_hash, data_hash FROM strategy_runs WHERE book = %s AND bar_end_at = %s

-- name: add_target
INSERT INTO targets (book, bar_end_at, version, instrument_id, weight_ppm, qty_e6, ref_price_e4, has_opinion)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_contribution
INSERT INTO target_contributions (book, bar_end_at, version, strategy, instrument_id, qty_e6)
VALUES (%s, %s, %s, %s, %s, %s)

-- name: add_risk_event
INSERT INTO risk_events (book, bar_end_at, version, event_no, rule, instrument_id, before_value, after_value, detail)
SELECT %(book)s, %(bar_end)s, %(version)s, coalesce(max(event_no), 0) + 1, %(rule)s, %(instrument)s, %(before)s,
       %(after)s, %(detail)s
FROM risk_events WHERE book = %(book)s AND bar_end_at = %(bar_end)s AND version = %(version)s

-- name: add_snapshot
INSERT INTO risk_snapshots (book, bar_end_at, version, gross_ppm, turnover_ppm, daily_return_ppm, drawdown_ppm,
                            trading_state)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)

-- name: targets
SELECT instrument_id, qty_e6, ref_price_e4, has_opinion FROM targets WHERE book = %s AND bar_end_at = %s AND version = %s

-- name: add_intent
INSERT INTO intents (client_order_id, book, account, bar_end_at, version, instrument_id, child, epoch, line_no,
    order_qty_e6, order_type, time_in_force, remainder, limit_price_e4, stop_price_e4, take_profit_e4, stop_loss_e4, parent_id,
    not_before_at, ref_price_e4, split_num, split_den, next_bar_end_at, reason)
VALUES (%(id)s, %(book)s, %(account)s, %(bar_end)s, %(version)s, %(instrument)s, %(child)s, %(epoch)s, %(line)s,
        %(qty)s, %(type)s, %(tif)s, %(remainder)s, %(limit)s, %(stop)s, %(take_profit)s, %(stop_loss)s, %(parent)s,
        %(not_before)s, %(ref)s, %(num)s, %(den)s, %(next)s, %(reason)s)

-- name: intents_of
SELECT count(*) FROM intents WHERE book = %s AND bar_end_at = %s AND instrument_id = %s AND child = 0 AND leg = 0

-- name: add_cancel
INSERT INTO sheet_cancels (book, bar_end_at, version, client_order_id) VALUES (%s, %s, %s, %s)

-- name: open_cancels
-- The orders that a sheet replaces and that have not ended by now.
SELECT c.client_order_id FROM sheet_cancels c JOIN orders o USING (client_order_id)
WHERE c.book = %s AND c.bar_end_at = %s AND c.version = %s
  AND o.status NOT IN ('FILLED', 'CANCELED', 'EXPIRED', 'REJECTED', 'VOIDED', 'NOT_SENT')
ORDER BY c.client_order_id

-- name: add_approval
INSERT INTO approvals (book, bar_end_at, version, sheet_hash, verdict, actor, decided_at, note)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (book, bar_end_at, version) DO UPDATE  -- a person answers what needed nobody when it was made
SET sheet_hash = excluded.sheet_hash, verdict = excluded.verdict, actor = excluded.actor,
    decided_at = excluded.decided_at, note = excluded.note
WHERE (approvals.verdict, approvals.actor) = ('not_required', 'configuration') AND excluded.verdict <> 'not_required'

-- name: approval
SELECT sheet_hash, verdict, actor FROM approvals WHERE book = %s AND bar_end_at = %s AND version = %s

-- name: sheets
SELECT coalesce(sheet_hash, '') FROM decisions WHERE book = %s AND bar_end_at = %s ORDER BY version

-- name: unsigned
-- Where a signature is asked for: also what needed none by the configuration of its time has none.
SELECT d.sheet_hash IS NOT NULL
       AND (a.verdict IS NULL OR (a.verdict, a.actor) = ('not_required', 'configuration'))
FROM decisions d
LEFT JOIN approvals a ON a.book = d.book AND a.bar_end_at = d.bar_end_at AND a.version = d.version
WHERE d.book = %(book)s AND d.bar_end_at = %(bar_end)s ORDER BY d.version DESC LIMIT 1

-- name: add_report
INSERT INTO reports (book, bar_end_at, session_date, path, content_hash, manifest_hash) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (book, bar_end_at) DO UPDATE
SET path = excluded.path, content_hash = excluded.content_hash, manifest_hash = excluded.manifest_hash
WHERE (reports.path, reports.content_hash, reports.manifest_hash)
      IS DISTINCT FROM (excluded.path, excluded.content_hash, excluded.manifest_hash)

-- name: report
SELECT path, content_hash FROM reports WHERE book = %s AND bar_end_at = %s

-- name: signals_since
SELECT bar_end_at, strategy, instrument_id, score FROM signals
WHERE book = %s AND bar_end_at >= %s AND bar_end_at < %s
