-- name: raise_alert
INSERT INTO alerts (dedup_key, severity, kind, book, session_date, stage, title, body, next_step, link, raised_at)
VALUES (%(dedup_key)s, %(severity)s, %(kind)s, %(book)s, %(session_date)s, %(stage)s, %(title)s, %(body)s,
        %(next_step)s, %(link)s, %(now)s)
ON CONFLICT (dedup_key) DO NOTHING
RETURNING alert_id

-- name: add_delivery
INSERT INTO alert_deliveries (alert_id, channel, status, next_try_at)
VALUES (%(alert_id)s, %(channel)s, 'pending', %(now)s)

-- name: claim_due
SELECT a.alert_id, a.severity, a.kind, a.book, a.session_date, a.stage, a.title, a.body, a.next_step, a.link,
       a.raised_at, d.channel, d.attempts
FROM alert_deliveries d
JOIN alerts a ON a.alert_id = d.alert_id
WHERE d.status = 'pending' AND d.next_try_at <= %(now)s AND NOT d.channel = ANY(%(skip)s::text[])
ORDER BY d.next_try_at, d.alert_id, d.channel
LIMIT %(limit)s
FOR UPDATE OF d SKIP LOCKED

-- name: mark_sent
UPDATE alert_deliveries
SET status = 'sent', sent_at = %(now)s, attempts = attempts + 1, last_error = ''
WHERE alert_id = %(alert_id)s AND channel = %(channel)s AND status = 'pending'

-- name: mark_failed
UPDATE alert_deliveries
SET status = CASE WHEN %(dead)s THEN 'dead' ELSE 'pending' END,
    attempts = attempts + 1, last_error = %(error)s, next_try_at = %(next_try_at)s
WHERE alert_id = %(alert_id)s AND channel = %(channel)s AND status = 'pending'

-- name: undelivered
SELECT count(*) FILTER (WHERE status = 'pending' AND attempts = 0) AS waiting,
       count(*) FILTER (WHERE status = 'pending' AND attempts > 0) AS retrying,
       count(*) FILTER (WHERE status = 'dead') AS dead
FROM alert_deliveries

-- name: failures
SELECT a.alert_id, a.title, d.channel, d.status, d.attempts, d.next_try_at, d.last_error
FROM alert_deliveries d
JOIN alerts a ON a.alert_id = d.alert_id
WHERE d.status = 'dead' OR (d.status = 'pending' AND d.attempts > 0)
ORDER BY a.alert_id, d.channel

-- name: revive
UPDATE alert_deliveries SET status = 'pending', attempts = 0, next_try_at = %(now)s WHERE status = 'dead'

-- name: book_progress
SELECT b.book, b.kind, b.timeframe, b.inception_at, r.status, r.session_date, r.bar_end_at
FROM books b
LEFT JOIN LATERAL (SELECT * FROM bar_runs x WHERE x.book = b.book AND x.bar_end_at = %(bar_end_at)s) r ON true
WHERE b.book = %(book)s

-- name: has_airflow
SELECT to_regclass('public.job') IS NOT NULL AS present

-- name: component_heartbeats
-- The newest job of each kind, running ones first: the rule by which Airflow's own health endpoint picks it.
SELECT DISTINCT ON (job_type) job_type, state, latest_heartbeat, hostname
FROM public.job
WHERE job_type = ANY(%(job_types)s)
ORDER BY job_type, (state IS DISTINCT FROM 'running'), latest_heartbeat DESC NULLS LAST
