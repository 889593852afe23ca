-- name: tables
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname IN ('public', 'tradecore')
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2;

-- name: content
-- The sum of the rows' hashes: no order, and no memory, whatever the table's size.
SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {} AS t;

-- name: timescaledb
SELECT extversion FROM pg_extension WHERE extname = 'timescaledb';

-- name: scratch_databases
SELECT datname FROM pg_database WHERE datname LIKE 'tradecore\_check\_%';
