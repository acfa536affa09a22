-- What is summed up and not yet merged into hours and days: by key and hour, for a few seconds. Charges of a moment are summed
-- up here at once; hours and days, which have orders to keep, take it over piece by piece.
CREATE TABLE usage_recent (
    user_id BIGINT NOT NULL CHECK (user_id > 0),
    key_id BIGINT NOT NULL CHECK (key_id > 0),
    start_ms BIGINT NOT NULL CHECK (start_ms % 3600000 = 0),
    model TEXT NOT NULL,
    outcome TEXT NOT NULL,
    requests BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    settled_micros BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    first_byte_ms BIGINT NOT NULL,
    first_bytes BIGINT NOT NULL,
    PRIMARY KEY (user_id, key_id, start_ms, model, outcome)
);
