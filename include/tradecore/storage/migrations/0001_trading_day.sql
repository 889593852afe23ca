-- Keys: instrument_id with dated symbols; bars by (instrument, timeframe, bar_end_at, source); decisions and
-- ledger by (book, bar_end_at, ...). Money and prices are bigint 1e-4 USD (_e4), quantities bigint 1e-6 share
-- (_e6): the same integers as in the kernels. Views ending in _usd show them as numeric.

CREATE TABLE instruments (
    instrument_id  integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    calendar       text NOT NULL,
    currency       text NOT NULL CHECK (currency = 'USD'),
    tick_e4        bigint NOT NULL CHECK (tick_e4 > 0),
    qty_step_e6    bigint NOT NULL CHECK (qty_step_e6 > 0)
);

-- A ticker can change hands: a symbol names an instrument from valid_from until valid_to (exclusive).
CREATE TABLE instrument_symbols (
    symbol         text NOT NULL,
    valid_from     date NOT NULL,
    valid_to       date,
    instrument_id  integer NOT NULL REFERENCES instruments,
    PRIMARY KEY (symbol, valid_from),
    CHECK (valid_to IS NULL OR valid_to > valid_from)
);

-- Membership is dated; coverage counts the members due on a session.
CREATE TABLE universe_members (
    universe       text NOT NULL,
    instrument_id  integer NOT NULL REFERENCES instruments,
    member_from    date NOT NULL,
    member_to      date,
    PRIMARY KEY (universe, instrument_id, member_from)
);

-- What a vendor said, as it said it (NaN and nonsense included), never changed: the truth that bars select from.
CREATE TABLE bar_versions (
    instrument_id     integer NOT NULL,
    timeframe         text NOT NULL,
    bar_end_at        timestamptz NOT NULL,
    source            text NOT NULL,
    known_at          timestamptz NOT NULL,
    dup_no            smallint NOT NULL DEFAULT 0,
    known_at_assumed  boolean NOT NULL,
    session_date      date NOT NULL,
    open              double precision NOT NULL,
    high              double precision NOT NULL,
    low               double precision NOT NULL,
    close             double precision NOT NULL,
    volume            double precision NOT NULL,
    PRIMARY KEY (instrument_id, timeframe, bar_end_at, source, known_at, dup_no)
);

-- The validated current selection. adj_factor is the forward factor (1 at the instrument's first bar; a later
-- split rewrites nothing).
CREATE TABLE bars (
    instrument_id  integer NOT NULL,
    timeframe      text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    source         text NOT NULL,
    session_date   date NOT NULL,
    known_at       timestamptz NOT NULL,
    open_e4        bigint NOT NULL CHECK (open_e4 > 0),
    high_e4        bigint NOT NULL,
    low_e4         bigint NOT NULL,
    close_e4       bigint NOT NULL CHECK (close_e4 > 0),
    volume         bigint NOT NULL CHECK (volume >= 0),
    adj_factor     double precision NOT NULL CHECK (adj_factor > 0),
    PRIMARY KEY (instrument_id, timeframe, bar_end_at, source)
);
CREATE INDEX bars_session ON bars (timeframe, session_date);

-- A restatement appends a version; the newest known_at up to the reader's as_of counts.
CREATE TABLE corporate_actions (
    instrument_id     integer NOT NULL REFERENCES instruments,
    ex_date           date NOT NULL,
    kind              text NOT NULL CHECK (kind IN ('split', 'dividend', 'delisting')),
    source            text NOT NULL,
    known_at          timestamptz NOT NULL,
    known_at_assumed  boolean NOT NULL,
    ratio_num         integer NOT NULL DEFAULT 1 CHECK (ratio_num > 0),
    ratio_den         integer NOT NULL DEFAULT 1 CHECK (ratio_den > 0),
    dividend_e6       bigint NOT NULL DEFAULT 0 CHECK (dividend_e6 >= 0),
    pay_date          date,
    PRIMARY KEY (instrument_id, ex_date, kind, source, known_at)
);

CREATE TABLE quality_results (
    source         text NOT NULL,
    timeframe      text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    content_hash   text NOT NULL,
    suite_version  text NOT NULL,
    session_date   date NOT NULL,
    universe       text NOT NULL,
    rows_checked   integer NOT NULL,
    rows_failed    integer NOT NULL,
    members_due    integer NOT NULL,
    members_seen   integer NOT NULL,
    coverage_frac  double precision NOT NULL,
    gate_open      boolean NOT NULL,
    gate_reason    text NOT NULL,
    checked_at     timestamptz NOT NULL,
    PRIMARY KEY (source, timeframe, bar_end_at, universe, content_hash, suite_version)
);

CREATE TABLE quarantined_bars (
    source         text NOT NULL,
    timeframe      text NOT NULL,
    symbol         text NOT NULL,
    session_date   date NOT NULL,
    record         text NOT NULL,
    expectation    text NOT NULL,
    message        text NOT NULL,
    found_at       timestamptz NOT NULL,
    PRIMARY KEY (source, timeframe, symbol, session_date, record, expectation)
);

-- What a decision was made from: counts and a hash of the bars of the window, as they were known.
CREATE TABLE manifests (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    session_date   date NOT NULL,
    as_of          timestamptz NOT NULL,
    bars_hash      text NOT NULL,
    bar_count      integer NOT NULL,
    action_count   integer NOT NULL,
    source         text NOT NULL,
    PRIMARY KEY (book, bar_end_at)
);

CREATE TABLE books (
    book           text PRIMARY KEY,
    kind           text NOT NULL CHECK (kind IN ('simulated', 'alpaca-paper', 'alpaca-live')),
    account        text NOT NULL,
    calendar       text NOT NULL,
    currency       text NOT NULL CHECK (currency = 'USD'),
    timeframe      text NOT NULL,
    source         text NOT NULL,
    universe       text NOT NULL,
    inception_at   timestamptz NOT NULL,
    opened_at      timestamptz NOT NULL
);

-- Cash that enters or leaves from outside: the opening event first.
CREATE TABLE cash_events (
    book           text NOT NULL REFERENCES books,
    bar_end_at     timestamptz NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('opening', 'deposit', 'withdrawal')),
    amount_e4      bigint NOT NULL,
    note           text NOT NULL,
    PRIMARY KEY (book, bar_end_at, kind)
);

-- Where a book's bar stands. settled -> decided (intents exist) -> closed (submit done, or no decision).
CREATE TABLE bar_runs (
    book           text NOT NULL REFERENCES books,
    bar_end_at     timestamptz NOT NULL,
    session_date   date NOT NULL,
    status         text NOT NULL CHECK (status IN ('started', 'settled', 'decided', 'closed')),
    outcome        text NOT NULL DEFAULT '',
    started_at     timestamptz NOT NULL,
    changed_at     timestamptz NOT NULL,
    PRIMARY KEY (book, bar_end_at)
);

-- The book after settling a bar. Scalars here, the rest in the book_* tables with the same key.
CREATE TABLE book_states (
    book                    text NOT NULL REFERENCES books,
    bar_end_at              timestamptz NOT NULL,
    session_date            date NOT NULL,
    cash_e4                 bigint NOT NULL,
    equity_e4               bigint NOT NULL,
    peak_equity_e4          bigint NOT NULL,
    prev_session_equity_e4  bigint NOT NULL,
    realised_e4             bigint NOT NULL,
    fees_e4                 bigint NOT NULL,
    dividends_e4            bigint NOT NULL,
    trading_state           smallint NOT NULL,
    state_sessions          integer NOT NULL,
    state_hash              text NOT NULL,
    PRIMARY KEY (book, bar_end_at)
);

CREATE TABLE book_positions (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    instrument_id  integer NOT NULL REFERENCES instruments,
    qty_e6         bigint NOT NULL,
    mark_e4        bigint NOT NULL,
    stale_bars     integer NOT NULL,
    PRIMARY KEY (book, bar_end_at, instrument_id),
    FOREIGN KEY (book, bar_end_at) REFERENCES book_states
);

CREATE TABLE book_lots (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    instrument_id  integer NOT NULL REFERENCES instruments,
    lot_no         integer NOT NULL,
    qty_e6         bigint NOT NULL,
    cost_e4        bigint NOT NULL,
    opened_ns      bigint NOT NULL,
    PRIMARY KEY (book, bar_end_at, instrument_id, lot_no),
    FOREIGN KEY (book, bar_end_at) REFERENCES book_states
);

-- Which strategy holds how much of a position; sums to it exactly.
CREATE TABLE book_allocations (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    strategy       text NOT NULL,
    instrument_id  integer NOT NULL REFERENCES instruments,
    qty_e6         bigint NOT NULL,
    PRIMARY KEY (book, bar_end_at, strategy, instrument_id),
    FOREIGN KEY (book, bar_end_at) REFERENCES book_states
);

CREATE TABLE book_receivables (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    instrument_id  integer NOT NULL REFERENCES instruments,
    pay_day        integer NOT NULL,
    amount_e4      bigint NOT NULL,
    PRIMARY KEY (book, bar_end_at, instrument_id, pay_day),
    FOREIGN KEY (book, bar_end_at) REFERENCES book_states
);

-- Orders carried past this bar (what asked to be carried). wants: {strategy: qty_e6}, in the units of this bar.
CREATE TABLE book_working_orders (
    book             text NOT NULL,
    bar_end_at       timestamptz NOT NULL,
    client_order_id  text NOT NULL,
    instrument_id    integer NOT NULL REFERENCES instruments,
    order_qty_e6     bigint NOT NULL,
    remaining_e6     bigint NOT NULL,
    limit_price_e4   bigint NOT NULL,
    stop_price_e4    bigint NOT NULL,
    age_bars         integer NOT NULL,
    wants            jsonb NOT NULL,
    PRIMARY KEY (book, bar_end_at, client_order_id),
    FOREIGN KEY (book, bar_end_at) REFERENCES book_states
);

-- What happened to the book at a bar, in order: splits, dividends, stale marks, breakers, cash shortfalls.
CREATE TABLE book_events (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    event_no       integer NOT NULL,
    kind           text NOT NULL,
    instrument_id  integer REFERENCES instruments,
    amount         bigint NOT NULL,
    detail         text NOT NULL,
    PRIMARY KEY (book, bar_end_at, event_no)
);

-- ACTIVE / REDUCING / HALTED as an event series; breakers and people write here.
CREATE TABLE state_events (
    book           text NOT NULL REFERENCES books,
    bar_end_at     timestamptz NOT NULL,
    event_no       integer NOT NULL,
    from_state     smallint NOT NULL,
    to_state       smallint NOT NULL,
    actor          text NOT NULL,
    reason         text NOT NULL,
    PRIMARY KEY (book, bar_end_at, event_no)
);

-- A decision is named by the hash of its inputs; a later version voids approvals of the earlier one.
CREATE TABLE decisions (
    book           text NOT NULL REFERENCES books,
    bar_end_at     timestamptz NOT NULL,
    version        integer NOT NULL,
    inputs_hash    text NOT NULL,
    data_hash      text NOT NULL,
    config_hash    text NOT NULL,
    code_hash      text NOT NULL,
    state_hash     text NOT NULL,
    sheet_hash     text,
    decided_at     timestamptz NOT NULL,
    PRIMARY KEY (book, bar_end_at, version)
);

CREATE TABLE signals (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    strategy       text NOT NULL,
    instrument_id  integer NOT NULL REFERENCES instruments,
    score          double precision NOT NULL,
    PRIMARY KEY (book, bar_end_at, strategy, instrument_id)
);

-- One row per strategy and bar: ok, or the error that took its place.
CREATE TABLE strategy_runs (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    strategy       text NOT NULL,
    ok             boolean NOT NULL,
    error          text NOT NULL,
    score_hash     text NOT NULL,
    PRIMARY KEY (book, bar_end_at, strategy)
);

CREATE TABLE targets (
    book             text NOT NULL,
    bar_end_at       timestamptz NOT NULL,
    version          integer NOT NULL,
    instrument_id    integer NOT NULL REFERENCES instruments,
    weight_ppm       bigint NOT NULL,
    qty_e6           bigint NOT NULL,
    ref_price_e4     bigint NOT NULL,
    has_opinion      boolean NOT NULL,
    PRIMARY KEY (book, bar_end_at, version, instrument_id)
);

CREATE TABLE target_contributions (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    version        integer NOT NULL,
    strategy       text NOT NULL,
    instrument_id  integer NOT NULL REFERENCES instruments,
    qty_e6         bigint NOT NULL,
    PRIMARY KEY (book, bar_end_at, version, strategy, instrument_id)
);

-- A limit that changed a target, or an order that planning left out: before, after and why.
CREATE TABLE risk_events (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    version        integer NOT NULL,
    event_no       integer NOT NULL,
    rule           text NOT NULL,
    instrument_id  integer REFERENCES instruments,
    before_value   bigint NOT NULL,
    after_value    bigint NOT NULL,
    detail         text NOT NULL,
    PRIMARY KEY (book, bar_end_at, version, event_no)
);

-- Immutable. The whole order record from the start; types not built yet are refused before they get here.
CREATE TABLE intents (
    client_order_id  text PRIMARY KEY,
    book             text NOT NULL REFERENCES books,
    account          text NOT NULL,
    bar_end_at       timestamptz NOT NULL,
    version          integer NOT NULL,
    instrument_id    integer NOT NULL REFERENCES instruments,
    leg              smallint NOT NULL DEFAULT 0,
    child            smallint NOT NULL DEFAULT 0,
    epoch            smallint NOT NULL DEFAULT 0,
    line_no          integer NOT NULL,
    order_qty_e6     bigint NOT NULL CHECK (order_qty_e6 <> 0),
    order_type       text NOT NULL,
    time_in_force    text NOT NULL,
    remainder        text NOT NULL CHECK (remainder IN ('cancel', 'carry')),
    limit_price_e4   bigint NOT NULL DEFAULT 0,
    stop_price_e4    bigint NOT NULL DEFAULT 0,
    parent_id        text,
    oco_group        text,
    ref_price_e4     bigint NOT NULL,
    split_num        integer NOT NULL DEFAULT 1,
    split_den        integer NOT NULL DEFAULT 1,
    next_bar_end_at  timestamptz NOT NULL,
    reason           text NOT NULL,
    UNIQUE (book, bar_end_at, version, instrument_id, leg, child, epoch)
);
CREATE INDEX intents_bar ON intents (book, bar_end_at);

-- Append-only; an order's state is the newest of its events (view orders).
CREATE TABLE order_events (
    client_order_id  text NOT NULL REFERENCES intents,
    event_no         integer NOT NULL,
    status           text NOT NULL CHECK (status IN ('PLANNED', 'APPROVED', 'SUBMITTING', 'ACKED', 'PARTIAL',
                         'FILLED', 'CANCELED', 'EXPIRED', 'REJECTED', 'UNKNOWN', 'VOIDED', 'NOT_SENT')),
    bar_end_at       timestamptz NOT NULL,
    happened_at      timestamptz NOT NULL,
    detail           text NOT NULL,
    PRIMARY KEY (client_order_id, event_no)
);

CREATE TABLE fills (
    fill_id          text PRIMARY KEY,
    client_order_id  text NOT NULL REFERENCES intents,
    book             text NOT NULL REFERENCES books,
    bar_end_at       timestamptz NOT NULL,
    fill_no          integer NOT NULL,
    instrument_id    integer NOT NULL REFERENCES instruments,
    qty_e6           bigint NOT NULL CHECK (qty_e6 <> 0),
    price_e4         bigint NOT NULL CHECK (price_e4 > 0),
    open_price_e4    bigint NOT NULL,
    fee_e4           bigint NOT NULL CHECK (fee_e4 >= 0),
    UNIQUE (book, bar_end_at, fill_no)
);

CREATE TABLE approvals (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    version        integer NOT NULL,
    sheet_hash     text NOT NULL,
    verdict        text NOT NULL CHECK (verdict IN ('not_required', 'approved', 'rejected', 'voided')),
    actor          text NOT NULL,
    decided_at     timestamptz NOT NULL,
    PRIMARY KEY (book, bar_end_at, version)
);

CREATE TABLE risk_snapshots (
    book              text NOT NULL,
    bar_end_at        timestamptz NOT NULL,
    version           integer NOT NULL,
    gross_ppm         bigint NOT NULL,
    turnover_ppm      bigint NOT NULL,
    daily_return_ppm  bigint NOT NULL,
    drawdown_ppm      bigint NOT NULL,
    trading_state     smallint NOT NULL,
    PRIMARY KEY (book, bar_end_at, version)
);

CREATE TABLE reports (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    session_date   date NOT NULL,
    path           text NOT NULL,
    content_hash   text NOT NULL,
    PRIMARY KEY (book, bar_end_at)
);

-- Outbox: written in the transaction of what it tells about, delivered afterwards, retried until it is.
CREATE TABLE alerts (
    alert_id      bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    dedup_key     text NOT NULL UNIQUE,
    severity      text NOT NULL CHECK (severity IN ('info', 'warning', 'error', 'critical')),
    kind          text NOT NULL,
    book          text NOT NULL,
    session_date  date,
    stage         text NOT NULL,
    title         text NOT NULL,
    body          text NOT NULL,
    next_step     text NOT NULL,
    link          text NOT NULL,
    raised_at     timestamptz NOT NULL
);

CREATE TABLE alert_deliveries (
    alert_id      bigint NOT NULL REFERENCES alerts,
    channel       text NOT NULL,
    status        text NOT NULL CHECK (status IN ('pending', 'sent', 'dead')),
    attempts      integer NOT NULL DEFAULT 0,
    next_try_at   timestamptz NOT NULL,
    last_error    text NOT NULL DEFAULT '',
    sent_at       timestamptz,
    PRIMARY KEY (alert_id, channel)
);
CREATE INDEX alert_deliveries_due ON alert_deliveries (next_try_at) WHERE status = 'pending';

CREATE VIEW orders AS
SELECT i.*, e.status, e.detail AS status_detail, e.happened_at AS status_at,
       coalesce(f.filled_e6, 0)::bigint AS filled_e6
FROM intents i
JOIN LATERAL (SELECT * FROM order_events o WHERE o.client_order_id = i.client_order_id
              ORDER BY o.event_no DESC LIMIT 1) e ON true
LEFT JOIN LATERAL (SELECT sum(qty_e6) AS filled_e6 FROM fills x
                   WHERE x.client_order_id = i.client_order_id) f ON true;

CREATE VIEW bars_usd AS
SELECT b.instrument_id, s.symbol, b.timeframe, b.bar_end_at, b.source, b.session_date,
       (b.open_e4 / 10000.0)::numeric(18, 4) AS open, (b.high_e4 / 10000.0)::numeric(18, 4) AS high,
       (b.low_e4 / 10000.0)::numeric(18, 4) AS low, (b.close_e4 / 10000.0)::numeric(18, 4) AS close,
       b.volume, b.adj_factor
FROM bars b
JOIN instrument_symbols s ON s.instrument_id = b.instrument_id
    AND b.session_date >= s.valid_from AND (s.valid_to IS NULL OR b.session_date < s.valid_to);
