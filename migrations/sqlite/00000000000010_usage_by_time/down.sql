CREATE TABLE usage_hourly_ordered (
    user_id INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    start_ms INTEGER NOT NULL CHECK (start_ms % 3600000 = 0),
    model TEXT NOT NULL,
    outcome TEXT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    settled_micros INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    first_byte_ms INTEGER NOT NULL,
    first_bytes INTEGER NOT NULL,
    PRIMARY KEY (user_id, key_id, start_ms, model, outcome),
    CHECK (user_id > 0 OR key_id = 0)
) STRICT, WITHOUT ROWID;
INSERT INTO usage_hourly_ordered (user_id, key_id, start_ms, model, outcome, requests, input_tokens, cached_input_tokens, output_tokens,
    settled_micros, duration_ms, first_byte_ms, first_bytes)
SELECT user_id, key_id, start_ms, model, outcome, requests, input_tokens, cached_input_tokens, output_tokens,
    settled_micros, duration_ms, first_byte_ms, first_bytes
FROM usage_hourly ORDER BY user_id, key_id, start_ms, model, outcome;
DROP TABLE usage_hourly;
ALTER TABLE usage_hourly_ordered RENAME TO usage_hourly;
CREATE INDEX usage_hourly_by_start ON usage_hourly (start_ms, user_id, settled_micros);
CREATE INDEX usage_hourly_of_users ON usage_hourly (start_ms, settled_micros) WHERE key_id = 0 AND user_id > 0;

CREATE TABLE usage_daily_ordered (
    user_id INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    start_ms INTEGER NOT NULL CHECK (start_ms % 86400000 = 0),
    model TEXT NOT NULL,
    outcome TEXT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    settled_micros INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    first_byte_ms INTEGER NOT NULL,
    first_bytes INTEGER NOT NULL,
    PRIMARY KEY (user_id, key_id, start_ms, model, outcome),
    CHECK (user_id > 0 OR key_id = 0)
) STRICT, WITHOUT ROWID;
INSERT INTO usage_daily_ordered (user_id, key_id, start_ms, model, outcome, requests, input_tokens, cached_input_tokens, output_tokens,
    settled_micros, duration_ms, first_byte_ms, first_bytes)
SELECT user_id, key_id, start_ms, model, outcome, requests, input_tokens, cached_input_tokens, output_tokens,
    settled_micros, duration_ms, first_byte_ms, first_bytes
FROM usage_daily ORDER BY user_id, key_id, start_ms, model, outcome;
DROP TABLE usage_daily;
ALTER TABLE usage_daily_ordered RENAME TO usage_daily;
CREATE INDEX usage_daily_by_start ON usage_daily (start_ms, user_id, settled_micros);
CREATE INDEX usage_daily_of_users ON usage_daily (start_ms, settled_micros) WHERE key_id = 0 AND user_id > 0;
