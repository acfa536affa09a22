-- What was used, summed up by hour and by day of the call's beginning (UTC), from every charge that was resolved before
-- usage_progress.rolled_ms. What was resolved since is added when somebody asks.
--
-- Three kinds of rows: of a key; of all keys of a user (key_id 0); of everybody (user_id 0, key_id 0).

CREATE TABLE usage_hourly (
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
CREATE INDEX usage_hourly_by_start ON usage_hourly (start_ms, user_id, settled_micros);
CREATE INDEX usage_hourly_of_users ON usage_hourly (start_ms, settled_micros) WHERE key_id = 0 AND user_id > 0;

CREATE TABLE usage_daily (
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
CREATE INDEX usage_daily_by_start ON usage_daily (start_ms, user_id, settled_micros);
CREATE INDEX usage_daily_of_users ON usage_daily (start_ms, settled_micros) WHERE key_id = 0 AND user_id > 0;

-- One row. Charges are resolved at closing_ms or later from now on; those before rolled_ms are summed up; hours are
-- kept from hourly_from_ms on.
CREATE TABLE usage_progress (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    rolled_ms INTEGER NOT NULL,
    closing_ms INTEGER NOT NULL CHECK (closing_ms >= rolled_ms),
    hourly_from_ms INTEGER NOT NULL
) STRICT;
INSERT INTO usage_progress (id, rolled_ms, closing_ms, hourly_from_ms) VALUES (1, 0, 0, 0);

-- New entries come at its end.
CREATE INDEX charges_by_resolution ON charges (resolved_at_ms, user_id) WHERE resolved_at_ms IS NOT NULL;

-- The list of charges goes by time.
DROP INDEX charges_by_user;
DROP INDEX charges_by_key;
CREATE INDEX charges_by_user ON charges (user_id, created_at_ms, id);
CREATE INDEX charges_by_key ON charges (key_id, created_at_ms, id);
