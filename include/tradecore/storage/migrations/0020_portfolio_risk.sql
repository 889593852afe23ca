-- The risk of what a book holds after a bar: value at risk, stress, contributions (risk/measures/summary.py).
CREATE TABLE portfolio_risk (
    book           text NOT NULL,
    bar_end_at     timestamptz NOT NULL,
    session_date   date NOT NULL,
    measures       jsonb NOT NULL,
    PRIMARY KEY (book, bar_end_at),
    FOREIGN KEY (book, bar_end_at) REFERENCES book_states
);
