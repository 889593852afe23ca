-- Chunks sized for a small machine: of 500 names, a week of minute bars is about a million rows, its indexes 60 MB.
SELECT create_hypertable('minute_bars', by_range('bar_end_at', INTERVAL '7 days'), create_default_indexes => FALSE, if_not_exists => TRUE, migrate_data => TRUE);
SELECT create_hypertable('trades', by_range('trade_at', INTERVAL '1 day'), create_default_indexes => FALSE, if_not_exists => TRUE, migrate_data => TRUE);
