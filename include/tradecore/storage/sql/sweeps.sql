-- name: add_sweep
INSERT INTO sweeps (sweep_id, strategy, sample, engine, metric, first_session, last_session, n_sets, chunk_size,
                    n_chunks, spec, data_hash, config_hash, code_hash, created_at)
VALUES (%(sweep_id)s, %(strategy)s, %(sample)s, %(engine)s, %(metric)s, %(first)s, %(last)s, %(n_sets)s,
        %(chunk_size)s, %(n_chunks)s, %(spec)s, %(data_hash)s, %(config_hash)s, %(code_hash)s, %(now)s)
ON CONFLICT (sweep_id) DO NOTHING

-- name: sweep
SELECT sweep_id, strategy, sample, engine, metric, first_session, last_session, n_sets, chunk_size, n_chunks, spec,
       data_hash, config_hash, code_hash, created_at,
       (SELECT count(*) FROM sweep_chunks c WHERE c.sweep_id = s.sweep_id) AS chunks_done,
       (SELECT coalesce(sum(n_rows), 0)::bigint FROM sweep_chunks c WHERE c.sweep_id = s.sweep_id) AS n_results
FROM sweeps s WHERE sweep_id = %(sweep_id)s

-- name: sweeps
SELECT s.sweep_id, s.strategy, s.sample, s.engine, s.metric, s.first_session, s.last_session, s.n_sets, s.n_chunks,
       s.created_at, count(c.chunk_no) AS chunks_done
FROM sweeps s LEFT JOIN sweep_chunks c USING (sweep_id)
GROUP BY s.sweep_id ORDER BY s.created_at DESC, s.sweep_id LIMIT %(most)s

-- name: chunks_done
SELECT chunk_no FROM sweep_chunks WHERE sweep_id = %(sweep_id)s ORDER BY chunk_no

-- name: add_chunk
-- Whoever has the row writes the results, in the same transaction: a second one that computed it too writes nothing.
INSERT INTO sweep_chunks (sweep_id, chunk_no, first_set, n_sets, n_rows, rows_hash, done_at)
VALUES (%(sweep_id)s, %(chunk_no)s, %(first_set)s, %(n_sets)s, %(n_rows)s, %(rows_hash)s, %(now)s)
ON CONFLICT (sweep_id, chunk_no) DO NOTHING RETURNING chunk_no

-- name: copy_results
COPY sweep_results (sweep_id, set_no, params, total_return, cagr, volatility, sharpe, sortino, max_drawdown, calmar,
                    hit_rate, n_trades) FROM STDIN

-- name: results
SELECT set_no, params, total_return, cagr, volatility, sharpe, sortino, max_drawdown, calmar, hit_rate, n_trades
FROM sweep_results WHERE sweep_id = %(sweep_id)s ORDER BY set_no

-- name: best
-- Undefined figures (NaN) come last, equal ones by their number: the same table gives the same choice.
SELECT set_no, params, total_return, cagr, volatility, sharpe, sortino, max_drawdown, calmar, hit_rate, n_trades
FROM sweep_results WHERE sweep_id = %(sweep_id)s
ORDER BY nullif(CASE %(metric)s WHEN 'total_return' THEN total_return WHEN 'cagr' THEN cagr
                     WHEN 'volatility' THEN -volatility WHEN 'sharpe' THEN sharpe WHEN 'sortino' THEN sortino
                     WHEN 'max_drawdown' THEN -max_drawdown WHEN 'calmar' THEN calmar
                     WHEN 'hit_rate' THEN hit_rate END, 'NaN') DESC NULLS LAST, set_no
LIMIT %(most)s

-- name: set_best
INSERT INTO sweep_best AS b (sweep_id, rank, set_no, params, swept, folded)
VALUES (%(sweep_id)s, %(rank)s, %(set_no)s, %(params)s, %(swept)s, %(folded)s)
ON CONFLICT (sweep_id, rank) DO UPDATE
SET set_no = excluded.set_no, params = excluded.params, swept = excluded.swept, folded = excluded.folded
WHERE (b.set_no, b.params, b.swept, b.folded)
      IS DISTINCT FROM (excluded.set_no, excluded.params, excluded.swept, excluded.folded)

-- name: folded_best
SELECT rank, set_no, params, swept, folded FROM sweep_best WHERE sweep_id = %(sweep_id)s ORDER BY rank

-- name: add_walk
INSERT INTO walk_forwards (walk_id, strategy, metric, first_session, last_session, spec, created_at)
VALUES (%(walk_id)s, %(strategy)s, %(metric)s, %(first)s, %(last)s, %(spec)s, %(now)s)
ON CONFLICT (walk_id) DO NOTHING

-- name: add_window
INSERT INTO walk_forward_windows (walk_id, window_no, sweep_id, train_first, train_last, test_first, test_last)
VALUES (%(walk_id)s, %(window_no)s, %(sweep_id)s, %(train_first)s, %(train_last)s, %(test_first)s, %(test_last)s)
ON CONFLICT (walk_id, window_no) DO NOTHING

-- name: walk
SELECT walk_id, strategy, metric, first_session, last_session, spec, figures, created_at
FROM walk_forwards WHERE walk_id = %(walk_id)s

-- name: windows
SELECT window_no, sweep_id, train_first, train_last, test_first, test_last, params, in_sample, out_of_sample
FROM walk_forward_windows WHERE walk_id = %(walk_id)s ORDER BY window_no

-- name: set_window
UPDATE walk_forward_windows SET params = %(params)s, in_sample = %(in_sample)s, out_of_sample = %(out_of_sample)s
WHERE walk_id = %(walk_id)s AND window_no = %(window_no)s

-- name: set_walk
UPDATE walk_forwards SET figures = %(figures)s WHERE walk_id = %(walk_id)s

-- name: add_equity
INSERT INTO walk_forward_equity (walk_id, bar_no, session_date, equity_e4)
VALUES (%(walk_id)s, %(bar_no)s, %(session)s, %(equity_e4)s)
ON CONFLICT (walk_id, bar_no) DO NOTHING

-- name: equity
SELECT bar_no, session_date, equity_e4 FROM walk_forward_equity WHERE walk_id = %(walk_id)s ORDER BY bar_no
