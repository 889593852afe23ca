-- name: save
-- The same backtest again changes nothing but where its newest page is.
INSERT INTO backtests (backtest_id, created_at, first_session, last_session, calendar, timeframe, source, universe,
    symbols, strategies, overrides, initial_cash_e4, benchmark, config_hash, code_hash, data_hash, book_hash, orders,
    fills, metrics, session_dates, equity_e4, benchmark_growth, fold_s, report_path)
VALUES (%(backtest_id)s, %(created_at)s, %(first_session)s, %(last_session)s, %(calendar)s, %(timeframe)s, %(source)s,
    %(universe)s, %(symbols)s, %(strategies)s, %(overrides)s, %(initial_cash_e4)s, %(benchmark)s, %(config_hash)s,
    %(code_hash)s, %(data_hash)s, %(book_hash)s, %(orders)s, %(fills)s, %(metrics)s, %(session_dates)s, %(equity_e4)s,
    %(benchmark_growth)s, %(fold_s)s, %(report_path)s)
ON CONFLICT (backtest_id) DO UPDATE SET report_path = EXCLUDED.report_path
WHERE EXCLUDED.report_path <> '' AND backtests.report_path <> EXCLUDED.report_path

-- name: newest
SELECT backtest_id, created_at, first_session, last_session, symbols, strategies, overrides, benchmark, metrics,
       report_path
FROM backtests ORDER BY created_at DESC, backtest_id LIMIT %(most)s

-- name: matching
SELECT backtest_id FROM backtests WHERE starts_with(backtest_id, %(start)s) ORDER BY backtest_id LIMIT 3

-- name: one
SELECT * FROM backtests WHERE backtest_id = %(backtest_id)s
