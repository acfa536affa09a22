ALTER TABLE usage_hourly DROP CONSTRAINT usage_hourly_pkey, ADD PRIMARY KEY (user_id, key_id, start_ms, model, outcome);
ALTER TABLE usage_daily DROP CONSTRAINT usage_daily_pkey, ADD PRIMARY KEY (user_id, key_id, start_ms, model, outcome);
