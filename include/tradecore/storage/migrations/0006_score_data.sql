-- The bars that a strategy's scores were computed from, by hash: scores of other bars than the current ones count for
-- nothing. '' is a run of before this migration.
ALTER TABLE strategy_runs ADD COLUMN data_hash text NOT NULL DEFAULT '';
