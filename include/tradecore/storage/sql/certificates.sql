-- name: add
INSERT INTO certificates (certificate_hash, kind, code_hash, params_hash, data_hash, first_session, last_session,
                          passed, made_at, content)
VALUES (%(hash)s, %(kind)s, %(code)s, %(params)s, %(data)s, %(first)s, %(last)s, %(passed)s, %(made)s, %(content)s)
ON CONFLICT (certificate_hash) DO NOTHING

-- name: of_kind
-- The newest first, that of exactly this code and these parameters before all others.
SELECT certificate_hash, code_hash, params_hash, passed, made_at, content
FROM certificates
WHERE kind = %(kind)s
ORDER BY (code_hash = %(code)s AND params_hash = %(params)s) DESC, made_at DESC
LIMIT 1

-- name: span
SELECT min(session_date), max(session_date)
FROM bars
WHERE timeframe = %(timeframe)s AND source = %(source)s AND instrument_id = ANY (%(instruments)s)
