-- Carried orders that a sheet replaces: lines of the sheet, and of its hash. They end when the sheet is sent, and only
-- then: one that is refused leaves them working.
CREATE TABLE sheet_cancels (
    book             text NOT NULL,
    bar_end_at       timestamptz NOT NULL,
    version          integer NOT NULL,
    client_order_id  text NOT NULL REFERENCES intents,
    PRIMARY KEY (book, bar_end_at, version, client_order_id),
    FOREIGN KEY (book, bar_end_at, version) REFERENCES decisions
);
