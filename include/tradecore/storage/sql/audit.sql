-- name: entries
SELECT entry_no, happened_at, kind, subject, actor, detail, sealed FROM audit_log ORDER BY entry_no

-- name: newest
SELECT entry_no, happened_at, kind, subject, actor, detail, sealed FROM audit_log ORDER BY entry_no DESC LIMIT %s

-- name: append
SELECT audit_append(%(kind)s, %(subject)s, %(actor)s, %(detail)s)
