-- Corporate actions of every kind. A stock dividend is a split of its ratio; a delisting's dividend_e6 is the stated price
-- of a share; a symbol change has only a name. withdrawn: the vendor does not know it any more, from known_at on.
ALTER TABLE corporate_actions DROP CONSTRAINT corporate_actions_kind_check;
ALTER TABLE corporate_actions ADD CONSTRAINT corporate_actions_kind_check
    CHECK (kind IN ('split', 'dividend', 'stock_dividend', 'symbol_change', 'delisting'));
ALTER TABLE corporate_actions ADD COLUMN new_symbol text NOT NULL DEFAULT '';
ALTER TABLE corporate_actions ADD COLUMN withdrawn boolean NOT NULL DEFAULT false;

-- What put a book right at a bar: an action that became known, changed or was withdrawn after its own bar had settled.
CREATE TABLE book_corrections (
    book           text NOT NULL REFERENCES books,
    bar_end_at     timestamptz NOT NULL,
    correction_no  integer NOT NULL,
    instrument_id  integer NOT NULL REFERENCES instruments,
    ex_date        date NOT NULL,
    kind           text NOT NULL,
    entitled_e6    bigint NOT NULL,   -- what was held when it went ex
    qty_before_e6  bigint NOT NULL,
    qty_e6         bigint NOT NULL,   -- what is held after it
    cash_e4        bigint NOT NULL,   -- for a dividend, or for what the ledger cannot hold
    terms_before   text NOT NULL,
    terms          text NOT NULL,
    PRIMARY KEY (book, bar_end_at, correction_no)
);

-- The suites that judged bars, as Great Expectations writes them, and their findings that kept no row out: a warning, or
-- what closed the gate. What was kept out is in quarantined_bars.
CREATE TABLE quality_suites (
    suite_version  text PRIMARY KEY,
    content        jsonb NOT NULL,
    first_at       timestamptz NOT NULL
);

CREATE TABLE quality_findings (
    source         text NOT NULL,
    timeframe      text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    symbol         text NOT NULL,
    dup_no         smallint NOT NULL,
    expectation    text NOT NULL,
    suite_version  text NOT NULL,
    session_date   date NOT NULL,
    severity       text NOT NULL CHECK (severity IN ('block', 'quarantine', 'warn')),
    message        text NOT NULL,
    found_at       timestamptz NOT NULL,
    PRIMARY KEY (source, timeframe, bar_end_at, symbol, dup_no, expectation, suite_version)
);
CREATE INDEX quality_findings_session ON quality_findings (source, timeframe, session_date);

ALTER TABLE quality_results ADD COLUMN rows_warned integer NOT NULL DEFAULT 0;
ALTER TABLE quality_results ADD COLUMN docs_path text NOT NULL DEFAULT '';  -- below .local; '': no page was built

-- A session's manifest in one hash, which what is made from it records: state, decision and report.
ALTER TABLE manifests ADD COLUMN sources jsonb NOT NULL DEFAULT '{}'::jsonb;  -- {source: bars of the window}
ALTER TABLE manifests ADD COLUMN manifest_hash text NOT NULL DEFAULT '';
ALTER TABLE book_states ADD COLUMN manifest_hash text NOT NULL DEFAULT '';
ALTER TABLE decisions ADD COLUMN manifest_hash text NOT NULL DEFAULT '';
ALTER TABLE reports ADD COLUMN manifest_hash text NOT NULL DEFAULT '';
