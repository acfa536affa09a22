-- Rows of one hour, and of one day, side by side: what calls add to at the same time lies on few pages, however many keys
-- make them.
ALTER TABLE usage_hourly DROP CONSTRAINT usage_hourly_pkey, ADD PRIMARY KEY (start_ms, user_id, key_id, model, outcome);
ALTER TABLE usage_daily DROP CONSTRAINT usage_daily_pkey, ADD PRIMARY KEY (start_ms, user_id, key_id, model, outcome);
