DROP INDEX charges_by_user;
DROP INDEX charges_by_key;
CREATE INDEX charges_by_user ON charges (user_id, id);
CREATE INDEX charges_by_key ON charges (key_id, id);
DROP INDEX charges_by_resolution;
DROP TABLE usage_progress;
DROP TABLE usage_daily;
DROP TABLE usage_hourly;
