DROP TABLE price_lists;
DROP TABLE upstream_hourly;
DROP INDEX charges_by_price;
ALTER TABLE models DROP COLUMN deleted_at_ms;
ALTER TABLE models DROP COLUMN hidden;
