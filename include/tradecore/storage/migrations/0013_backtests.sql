-- Backtests that were kept. The id is a hash of what one is made of, so that the same run again is the same row; a
-- backtest of other bars, another configuration or other code is another one.
CREATE TABLE backtests (
    backtest_id      text PRIMARY KEY,
    created_at       timestamptz NOT NULL,
    first_session    date NOT NULL,
    last_session     date NOT NULL CHECK (last_session >= first_session),
    calendar         text NOT NULL,
    timeframe        text NOT NULL,
    source           text NOT NULL,
    universe         text NOT NULL,
    symbols          text[] NOT NULL,
    strategies       jsonb NOT NULL,  -- {name: {kind, capital_share, params}} in the book's order
    overrides        jsonb NOT NULL,  -- what the run asked for instead of what is configured
    initial_cash_e4  bigint NOT NULL CHECK (initial_cash_e4 > 0),
    benchmark        text NOT NULL,
    config_hash      text NOT NULL,
    code_hash        text NOT NULL,
    data_hash        text NOT NULL,
    book_hash        text NOT NULL,
    orders           integer NOT NULL,
    fills            integer NOT NULL,
    metrics          jsonb NOT NULL,  -- null: not defined
    session_dates    date[] NOT NULL,
    equity_e4        bigint[] NOT NULL,
    benchmark_growth double precision[],
    fold_s           double precision NOT NULL,
    report_path      text NOT NULL DEFAULT '',  -- below the project's folder where it is there; '': none was written
    CHECK (cardinality(equity_e4) = cardinality(session_dates)),
    CHECK (benchmark_growth IS NULL OR cardinality(benchmark_growth) = cardinality(session_dates))
);
CREATE INDEX backtests_newest ON backtests (created_at DESC);
