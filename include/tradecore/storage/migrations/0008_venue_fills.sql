-- Fills of a real venue: those of orders placed by hand and of bracket legs have no intent of ours; a price of more than
-- four decimals stays exact in broker_fills, so the notional that was booked is kept. NULL: round(qty * price).
ALTER TABLE fills ALTER COLUMN client_order_id DROP NOT NULL;
ALTER TABLE fills ADD COLUMN broker_order_id text NOT NULL DEFAULT '';
ALTER TABLE fills ADD COLUMN notional_e4 bigint;
