"""What a session, or a history of sessions, looks like: metrics (pure) and pages."""
