-- name: take
-- Tokens, whoever asks: each statement waits for the row of the one before. Below zero is a debt that time pays:
-- who took the token waits for it. A clock that went back gives nothing, and takes nothing away.
INSERT INTO broker_throttle AS t (account, tokens, refilled_at)
VALUES (%(account)s, %(burst)s::float8 - %(count)s, %(now)s)
ON CONFLICT (account) DO UPDATE
SET tokens = least(%(burst)s::float8, t.tokens + %(per_second)s::float8
                   * greatest(0, extract(epoch FROM excluded.refilled_at - t.refilled_at)::float8)) - %(count)s,
    refilled_at = excluded.refilled_at
RETURNING greatest(0, -tokens) / %(per_second)s::float8
