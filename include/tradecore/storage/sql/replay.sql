-- name: keep_configuration
INSERT INTO configurations (config_hash, content, first_at) VALUES (%(hash)s, %(content)s, %(now)s)
ON CONFLICT (config_hash) DO NOTHING

-- name: configuration
SELECT content FROM configurations WHERE config_hash = %s

-- name: state
SELECT state_hash, as_of, config_hash, cash_e4, equity_e4, trading_state, session_date FROM book_states
WHERE book = %s AND bar_end_at = %s

-- name: decision
SELECT version, data_hash, config_hash, code_hash, as_of, sheet_hash IS NOT NULL FROM decisions
WHERE book = %s AND bar_end_at = %s ORDER BY version DESC LIMIT 1

-- name: fills
SELECT instrument_id, qty_e6, price_e4, fee_e4 FROM fills WHERE book = %s AND bar_end_at = %s ORDER BY fill_no

-- name: lines
-- The lines of a sheet; a slice, or a stop that was put back, is none of its own.
SELECT instrument_id, order_qty_e6, ref_price_e4, split_num, split_den FROM intents
WHERE book = %s AND bar_end_at = %s AND version = %s AND child = 0 AND leg = 0 ORDER BY line_no

-- name: cancels
SELECT i.bar_end_at, i.line_no FROM sheet_cancels c JOIN intents i USING (client_order_id)
WHERE c.book = %s AND c.bar_end_at = %s AND c.version = %s ORDER BY i.bar_end_at, i.line_no

-- name: symbols
-- A name means the instrument that had it last: a configuration may keep one for a while after it was changed.
SELECT DISTINCT ON (symbol) symbol, instrument_id FROM instrument_symbols
WHERE symbol = ANY(%(symbols)s)
ORDER BY symbol, valid_from <= %(day)s DESC, valid_from DESC

-- name: keep_proof
INSERT INTO day_proofs (book, bar_end_at, session_date, verdict, stage, inputs, detail, hashes, proved_at)
VALUES (%(book)s, %(bar_end)s, %(session)s, %(verdict)s, %(stage)s, %(inputs)s, %(detail)s, %(hashes)s, %(now)s)
ON CONFLICT (book, bar_end_at) DO UPDATE
SET verdict = excluded.verdict, stage = excluded.stage, inputs = excluded.inputs, detail = excluded.detail,
    hashes = excluded.hashes, proved_at = excluded.proved_at
WHERE (day_proofs.verdict, day_proofs.stage, day_proofs.inputs, day_proofs.detail, day_proofs.hashes)
      IS DISTINCT FROM (excluded.verdict, excluded.stage, excluded.inputs, excluded.detail, excluded.hashes)

-- name: proof
SELECT verdict, stage, inputs, detail, hashes, proved_at FROM day_proofs WHERE book = %s AND bar_end_at = %s

-- name: newest_proof
SELECT session_date, verdict, stage, inputs, detail FROM day_proofs WHERE book = %s ORDER BY bar_end_at DESC LIMIT 1

-- name: carried_keys
SELECT i.bar_end_at, i.line_no FROM book_working_orders w JOIN intents i USING (client_order_id)
WHERE w.book = %s AND w.bar_end_at = %s ORDER BY i.bar_end_at, i.line_no
