-- What is summed up and not yet merged into hours and days: by key and hour, for a few seconds. Charges of a moment are summed
-- up here at once; hours and days, which have orders to keep, take it over piece by piece.
CREATE TABLE usage_recent (
    user_id INTEGER NOT NULL CHECK (user_id > 0),
    key_id INTEGER NOT NULL CHECK (key_id > 0),
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
    PRIMARY KEY (user_id, key_id, start_ms, model, outcome)
) STRICT, WITHOUT ROWID;
