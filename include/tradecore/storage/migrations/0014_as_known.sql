-- What was known when. `bars` is the current selection; a row that is replaced or dropped, or whose factor changes,
-- moves to bars_past, so that the selection of any time since can be read again: bars selected by then, and of the past
-- ones those that were replaced later. NULL (rows of before this migration): since known_at.
ALTER TABLE bars ADD COLUMN selected_at timestamptz;

CREATE TABLE bars_past (
    instrument_id  integer NOT NULL,
    timeframe      text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    source         text NOT NULL,
    replaced_at    timestamptz NOT NULL,
    selected_at    timestamptz NOT NULL,
    session_date   date NOT NULL,
    known_at       timestamptz NOT NULL,
    open_e4        bigint NOT NULL,
    high_e4        bigint NOT NULL,
    low_e4         bigint NOT NULL,
    close_e4       bigint NOT NULL,
    volume         bigint NOT NULL,
    adj_factor     double precision NOT NULL,
    PRIMARY KEY (instrument_id, timeframe, source, bar_end_at, replaced_at)
);
CREATE INDEX bars_past_session ON bars_past (timeframe, session_date);

-- One row a source: the newest time that a change or a manifest of its data was stamped with. The next stamp is later,
-- whatever the writers' clocks say: what was read at a time is what is read as of it.
CREATE TABLE data_clock (
    source     text PRIMARY KEY,
    newest_at  timestamptz NOT NULL
);

-- The bars that a session's stages may read, as far as they look back, in one hash: as known at as_of.
ALTER TABLE manifests ADD COLUMN window_hash text NOT NULL DEFAULT '';
ALTER TABLE manifests ADD COLUMN window_bars integer NOT NULL DEFAULT 0;
CREATE INDEX manifests_source ON manifests (source, bar_end_at);

-- What a replay starts from: the time as of which data were read, and the configuration by its content.
ALTER TABLE decisions ADD COLUMN as_of timestamptz;
ALTER TABLE book_states ADD COLUMN as_of timestamptz;
ALTER TABLE book_states ADD COLUMN config_hash text NOT NULL DEFAULT '';

CREATE TABLE configurations (
    config_hash  text PRIMARY KEY,
    content      text NOT NULL,
    first_at     timestamptz NOT NULL
);

-- The daily proof: a session computed again from what its decision names. stage: the first that differs, '' none.
-- inputs: which of data, config and code are not those of then.
CREATE TABLE day_proofs (
    book          text NOT NULL REFERENCES books,
    bar_end_at    timestamptz NOT NULL,
    session_date  date NOT NULL,
    verdict       text NOT NULL CHECK (verdict IN ('equal', 'different')),
    stage         text NOT NULL,
    inputs        text NOT NULL,
    detail        text NOT NULL,
    hashes        jsonb NOT NULL,
    proved_at     timestamptz NOT NULL,
    PRIMARY KEY (book, bar_end_at)
);
