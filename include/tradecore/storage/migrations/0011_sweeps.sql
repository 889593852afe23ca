-- Research: the parameter sets of a sweep, in chunks that are stored whole or not at all, and walk-forwards over them.

CREATE TABLE sweeps (
    sweep_id      text PRIMARY KEY,      -- hash of the specification, data, configuration and code
    strategy      text NOT NULL,
    sample        text NOT NULL CHECK (sample IN ('grid', 'random', 'sobol')),
    engine        text NOT NULL CHECK (engine IN ('fold', 'screen')),
    metric        text NOT NULL,
    first_session date NOT NULL,
    last_session  date NOT NULL,
    n_sets        bigint NOT NULL,
    chunk_size    integer NOT NULL,
    n_chunks      integer NOT NULL,
    spec          jsonb NOT NULL,
    data_hash     text NOT NULL,
    config_hash   text NOT NULL,
    code_hash     text NOT NULL,
    created_at    timestamptz NOT NULL
);

CREATE TABLE sweep_chunks (              -- a row means: all results of the chunk are there
    sweep_id  text NOT NULL REFERENCES sweeps ON DELETE CASCADE,
    chunk_no  integer NOT NULL,
    first_set bigint NOT NULL,
    n_sets    integer NOT NULL,
    n_rows    integer NOT NULL,          -- fewer where a combination is impossible (short_period >= long_period)
    rows_hash text NOT NULL,
    done_at   timestamptz NOT NULL,
    PRIMARY KEY (sweep_id, chunk_no)
);

CREATE TABLE sweep_results (             -- no foreign key: a million rows would each ask for it
    sweep_id     text NOT NULL,
    set_no       bigint NOT NULL,
    params       jsonb NOT NULL,
    total_return double precision NOT NULL,
    cagr         double precision,       -- NULL: not computed by the screening kernel
    volatility   double precision,
    sharpe       double precision NOT NULL,
    sortino      double precision,
    max_drawdown double precision NOT NULL,
    calmar       double precision,
    hit_rate     double precision,
    n_trades     bigint NOT NULL,
    PRIMARY KEY (sweep_id, set_no)
);

CREATE TABLE sweep_best (                -- the best of a sweep, through the production fold
    sweep_id     text NOT NULL REFERENCES sweeps ON DELETE CASCADE,
    rank         integer NOT NULL,
    set_no       bigint NOT NULL,
    params       jsonb NOT NULL,
    swept        jsonb NOT NULL,         -- figures as the sweep had them
    folded       jsonb NOT NULL,         -- figures of the fold
    PRIMARY KEY (sweep_id, rank)
);

CREATE TABLE walk_forwards (
    walk_id       text PRIMARY KEY,
    strategy      text NOT NULL,
    metric        text NOT NULL,
    first_session date NOT NULL,
    last_session  date NOT NULL,
    spec          jsonb NOT NULL,
    figures       jsonb,                 -- of the joined out-of-sample curve; NULL: not finished
    created_at    timestamptz NOT NULL
);

CREATE TABLE walk_forward_windows (
    walk_id     text NOT NULL REFERENCES walk_forwards ON DELETE CASCADE,
    window_no   integer NOT NULL,
    sweep_id    text NOT NULL REFERENCES sweeps,
    train_first date NOT NULL,
    train_last  date NOT NULL,
    test_first  date NOT NULL,
    test_last   date NOT NULL,
    params      jsonb,
    in_sample   jsonb,
    out_of_sample jsonb,
    PRIMARY KEY (walk_id, window_no)
);

CREATE TABLE walk_forward_equity (
    walk_id      text NOT NULL REFERENCES walk_forwards ON DELETE CASCADE,
    bar_no       integer NOT NULL,
    session_date date NOT NULL,
    equity_e4    bigint NOT NULL,
    PRIMARY KEY (walk_id, bar_no)
);
