-- Rows of one hour, and of one day, side by side: what calls add to at the same time lies on few pages, however many keys
-- make them.
ALTER TABLE usage_hourly DROP CONSTRAINT usage_hourly_pkey, ADD PRIMARY KEY (start_ms, user_id, key_id, model, outcome);
ALTER TABLE usage_daily DROP CONSTRAINT usage_daily_pkey, ADD PRIMARY KEY (start_ms, user_id, key_id, model, outcome);
DROP INDEX usage_hourly_by_start;
DROP INDEX usage_hourly_of_users;
CREATE INDEX usage_hourly_by_start ON usage_hourly (start_ms, user_id, settled_micros) INCLUDE (key_id, model, outcome);
CREATE INDEX usage_hourly_of_users ON usage_hourly (start_ms, settled_micros) INCLUDE (user_id, key_id, model, outcome)
    WHERE key_id = 0 AND user_id > 0;
DROP INDEX usage_daily_by_start;
DROP INDEX usage_daily_of_users;
CREATE INDEX usage_daily_by_start ON usage_daily (start_ms, user_id, settled_micros) INCLUDE (key_id, model, outcome);
CREATE INDEX usage_daily_of_users ON usage_daily (start_ms, settled_micros) INCLUDE (user_id, key_id, model, outcome)
    WHERE key_id = 0 AND user_id > 0;
