-- Run only where the extension is there; elsewhere the tables stay plain. One-year chunks: DATABASE.md, measured.
SELECT create_hypertable('bars', by_range('bar_end_at', INTERVAL '1 year'), if_not_exists => TRUE, migrate_data => TRUE);
SELECT create_hypertable('bar_versions', by_range('bar_end_at', INTERVAL '1 year'), if_not_exists => TRUE, migrate_data => TRUE);
