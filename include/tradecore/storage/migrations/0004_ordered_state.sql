-- The state that a person ordered: it stays until a person lifts it, whatever the breakers' counts of sessions say.
-- A book that was not ACTIVE is taken to be in what a person last ordered, if it has not been ACTIVE since.
ALTER TABLE book_states ADD COLUMN ordered_state smallint NOT NULL DEFAULT 0;

UPDATE book_states b SET ordered_state = least(p.to_state, b.trading_state)
FROM book_states x
JOIN LATERAL (SELECT e.to_state, e.bar_end_at FROM state_events e
              WHERE e.book = x.book AND e.bar_end_at <= x.bar_end_at AND e.actor <> 'breaker'
              ORDER BY e.bar_end_at DESC, e.event_no DESC LIMIT 1) p ON true
WHERE b.book = x.book AND b.bar_end_at = x.bar_end_at AND b.trading_state <> 0
  AND NOT EXISTS (SELECT 1 FROM book_states a WHERE a.book = b.book AND a.trading_state = 0
                  AND a.bar_end_at >= p.bar_end_at AND a.bar_end_at < b.bar_end_at);
