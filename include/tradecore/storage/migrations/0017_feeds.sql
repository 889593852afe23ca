-- What two vendors said of a bar and which of them counts: one row a decision, the newest by decided_at is in force.
-- `source` is the first vendor, under whose name the bar is selected; `second` the other one. first_* and second_*: what
-- each gave, NULL where it gave none. chosen none: neither, the bar is missing.
CREATE TABLE bar_arbitrations (
    instrument_id     integer NOT NULL REFERENCES instruments,
    timeframe         text NOT NULL,
    bar_end_at        timestamptz NOT NULL,
    source            text NOT NULL,
    decided_at        timestamptz NOT NULL,
    session_date      date NOT NULL,
    second            text NOT NULL,
    reason            text NOT NULL CHECK (reason IN ('missing', 'impossible', 'jump', 'disputed', 'agreed', 'arrived')),
    chosen            text NOT NULL CHECK (chosen IN ('first', 'second', 'none')),
    difference_frac   double precision,
    first_known_at    timestamptz,
    first_open        double precision,
    first_high        double precision,
    first_low         double precision,
    first_close       double precision,
    first_volume      double precision,
    second_known_at   timestamptz,
    second_assumed    boolean NOT NULL DEFAULT false,
    second_open       double precision,
    second_high       double precision,
    second_low        double precision,
    second_close      double precision,
    second_volume     double precision,
    PRIMARY KEY (instrument_id, timeframe, source, bar_end_at, decided_at),
    CHECK (chosen <> 'second' OR second_known_at IS NOT NULL),
    CHECK (chosen <> 'first' OR first_known_at IS NOT NULL)
);
CREATE INDEX bar_arbitrations_session ON bar_arbitrations (source, timeframe, session_date);

-- Who told of an action where it was not the source itself: the second vendor, while the first was down.
ALTER TABLE corporate_actions ADD COLUMN given_by text NOT NULL DEFAULT '';

-- Loads of history, and their parts: what is done is not asked for again when the load goes on.
CREATE TABLE loads (
    load_id        text PRIMARY KEY,
    source         text NOT NULL,
    timeframe      text NOT NULL,
    first_session  date NOT NULL,
    last_session   date NOT NULL,
    symbols        integer NOT NULL,
    parts          integer NOT NULL,
    begun_at       timestamptz NOT NULL,
    finished_at    timestamptz
);

CREATE TABLE load_parts (
    load_id        text NOT NULL REFERENCES loads,
    part_no        integer NOT NULL,
    symbols        text[] NOT NULL,
    first_session  date NOT NULL,
    last_session   date NOT NULL,
    done_at        timestamptz,
    bars           bigint NOT NULL DEFAULT 0,
    failures       text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (load_id, part_no)
);
