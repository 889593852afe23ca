-- What the proofs of validity found about a strategy: of exactly this code and these parameters. Kept for good; the
-- newest one of a code and its parameters counts. The whole certificate is in `content`, its hash is its key.
CREATE TABLE certificates (
    certificate_hash  text PRIMARY KEY,
    kind              text NOT NULL,
    code_hash         text NOT NULL,
    params_hash       text NOT NULL,
    data_hash         text NOT NULL,
    first_session     date NOT NULL,
    last_session      date NOT NULL,
    passed            boolean NOT NULL,
    made_at           timestamptz NOT NULL,
    content           jsonb NOT NULL
);
CREATE INDEX certificates_kind ON certificates (kind, made_at DESC);
