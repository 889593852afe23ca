-- Execution at a real venue: docs/EXECUTION.md. Raw facts of the broker are kept apart from the ledger: append-only, by
-- the broker's own ids. Decimal values of the broker are numeric, whatever their number of digits.

-- A venue's account. The database's key of live trading is live_enabled, with the number it is meant for.
CREATE TABLE broker_accounts (
    account         text PRIMARY KEY,
    account_number  text NOT NULL,
    live_enabled    boolean NOT NULL DEFAULT false,
    changed_by      text NOT NULL,
    reason          text NOT NULL,
    changed_at      timestamptz NOT NULL
);

-- Orders that the simulated venue has accepted, by client order id: a second one of the same id is refused.
CREATE TABLE venue_orders (
    client_order_id  text PRIMARY KEY,
    book             text NOT NULL REFERENCES books,
    symbol           text NOT NULL,
    qty_e6           bigint NOT NULL CHECK (qty_e6 <> 0),
    filled_e6        bigint NOT NULL DEFAULT 0,
    order_type       text NOT NULL,
    time_in_force    text NOT NULL,
    status           text NOT NULL CHECK (status IN ('open', 'partial', 'filled', 'canceled', 'expired')),
    submitted_at     timestamptz NOT NULL,
    changed_at       timestamptz NOT NULL
);
CREATE INDEX venue_orders_book ON venue_orders (book, status);

-- Which order of the venue belongs to which of ours. adopted: placed by hand, or by something else than us.
CREATE TABLE broker_orders (
    account           text NOT NULL,
    broker_order_id   text NOT NULL,
    client_order_id   text NOT NULL,
    book              text NOT NULL REFERENCES books,
    symbol            text NOT NULL,
    qty               numeric NOT NULL,
    order_type        text NOT NULL,
    time_in_force     text NOT NULL,
    adopted           boolean NOT NULL,
    parent_id         text,
    status            text NOT NULL,
    filled_qty        numeric NOT NULL,
    first_seen_at     timestamptz NOT NULL,
    changed_at        timestamptz NOT NULL,
    PRIMARY KEY (account, broker_order_id)
);
CREATE INDEX broker_orders_client ON broker_orders (client_order_id);
CREATE INDEX broker_orders_working ON broker_orders (book) WHERE status IN
    ('pending', 'open', 'partial', 'pending_cancel', 'pending_replace');

-- Every execution that the venue reported, once.
CREATE TABLE broker_fills (
    account          text NOT NULL,
    fill_id          text NOT NULL,
    broker_order_id  text NOT NULL,
    book             text NOT NULL REFERENCES books,
    symbol           text NOT NULL,
    qty              numeric NOT NULL CHECK (qty <> 0),
    price            numeric NOT NULL CHECK (price > 0),
    fee              numeric NOT NULL DEFAULT 0,
    filled_at        timestamptz NOT NULL,
    seen_at          timestamptz NOT NULL,
    booked_bar_end_at timestamptz,
    PRIMARY KEY (account, fill_id)
);
CREATE INDEX broker_fills_unbooked ON broker_fills (book) WHERE booked_bar_end_at IS NULL;

CREATE TABLE broker_activities (
    account        text NOT NULL,
    activity_id    text NOT NULL,
    book           text NOT NULL REFERENCES books,
    kind           text NOT NULL,
    symbol         text,
    qty            numeric NOT NULL,
    amount         numeric NOT NULL,
    effective_on   date NOT NULL,
    note           text NOT NULL,
    seen_at        timestamptz NOT NULL,
    booked_bar_end_at timestamptz,
    PRIMARY KEY (account, activity_id)
);

CREATE TABLE broker_cursors (
    account      text NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('fills', 'activities')),
    cursor       text NOT NULL,
    changed_at   timestamptz NOT NULL,
    PRIMARY KEY (account, kind)
);

-- Token bucket of the account, shared by all processes.
CREATE TABLE broker_throttle (
    account      text PRIMARY KEY,
    tokens       double precision NOT NULL,
    refilled_at  timestamptz NOT NULL
);

-- One look at our ledger, the broker and the accounting from the ledger's own entries.
CREATE TABLE reconciliations (
    book           text NOT NULL REFERENCES books,
    bar_end_at     timestamptz NOT NULL,
    phase          text NOT NULL CHECK (phase IN ('settle', 'plan')),
    run_no         integer NOT NULL,
    comparable     boolean NOT NULL,
    clean          boolean NOT NULL,
    detail         text NOT NULL,
    looked_at      timestamptz NOT NULL,
    PRIMARY KEY (book, bar_end_at, phase, run_no)
);

-- A difference that nobody has explained yet. Open ones stop new orders.
CREATE TABLE breaks (
    break_id       bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    book           text NOT NULL REFERENCES books,
    kind           text NOT NULL CHECK (kind IN ('position', 'cash', 'order', 'fill', 'accounting')),
    subject        text NOT NULL,
    ledger_value   numeric NOT NULL,
    broker_value   numeric NOT NULL,
    cause          text NOT NULL,
    owner          text NOT NULL DEFAULT '',
    status         text NOT NULL CHECK (status IN ('open', 'resolved', 'accepted')),
    opened_bar_end_at timestamptz NOT NULL,
    opened_at      timestamptz NOT NULL,
    closed_by      text NOT NULL DEFAULT '',
    closed_reason  text NOT NULL DEFAULT '',
    closed_at      timestamptz
);
CREATE UNIQUE INDEX breaks_open ON breaks (book, kind, subject) WHERE status = 'open';

-- Differences that are explained and stay: dividends that a paper account does not pay, accepted breaks, sub-cent rests.
CREATE TABLE explained_differences (
    book           text NOT NULL REFERENCES books,
    bar_end_at     timestamptz NOT NULL,
    kind           text NOT NULL,
    subject        text NOT NULL,
    amount         numeric NOT NULL,
    detail         text NOT NULL,
    PRIMARY KEY (book, bar_end_at, kind, subject)
);

-- Every pre-trade check of every order, passed or not, each time it was made.
CREATE TABLE check_results (
    client_order_id  text NOT NULL REFERENCES intents,
    check_no         smallint NOT NULL,
    run_no           integer NOT NULL,
    name             text NOT NULL,
    passed           boolean NOT NULL,
    detail           text NOT NULL,
    checked_at       timestamptz NOT NULL,
    PRIMARY KEY (client_order_id, check_no, run_no)
);

ALTER TABLE approvals DROP CONSTRAINT approvals_verdict_check;
ALTER TABLE approvals ADD CONSTRAINT approvals_verdict_check
    CHECK (verdict IN ('not_required', 'approved', 'rejected', 'voided', 'expired'));
ALTER TABLE approvals ADD COLUMN note text NOT NULL DEFAULT '';
ALTER TABLE intents ADD COLUMN take_profit_e4 bigint NOT NULL DEFAULT 0;
ALTER TABLE intents ADD COLUMN stop_loss_e4 bigint NOT NULL DEFAULT 0;
ALTER TABLE intents ADD COLUMN not_before_at timestamptz;
