-- Every /v1 route: what else a price may count, what a call counted, and who made which response.
-- per_character_micros is per million characters, as the prices of tokens are per million tokens.
ALTER TABLE prices ADD COLUMN cache_write_micros INTEGER CHECK (cache_write_micros >= 0);
ALTER TABLE prices ADD COLUMN per_image_micros INTEGER NOT NULL DEFAULT 0 CHECK (per_image_micros >= 0);
ALTER TABLE prices ADD COLUMN per_audio_second_micros INTEGER NOT NULL DEFAULT 0 CHECK (per_audio_second_micros >= 0);
ALTER TABLE prices ADD COLUMN per_character_micros INTEGER NOT NULL DEFAULT 0 CHECK (per_character_micros >= 0);

-- cache_write_tokens are part of input_tokens, reasoning_tokens of output_tokens.
ALTER TABLE charges ADD COLUMN cache_write_tokens INTEGER;
ALTER TABLE charges ADD COLUMN reasoning_tokens INTEGER;
ALTER TABLE charges ADD COLUMN images INTEGER;
ALTER TABLE charges ADD COLUMN audio_ms INTEGER;
ALTER TABLE charges ADD COLUMN characters INTEGER;

-- upstream_id refers to a row that may be gone. tokens: what the next call that continues from here has as its context.
CREATE TABLE responses (
    user_id INTEGER NOT NULL REFERENCES users (id),
    response_id TEXT NOT NULL,
    upstream_id INTEGER NOT NULL,
    model TEXT NOT NULL,
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (user_id, response_id)
) STRICT;
CREATE INDEX responses_by_age ON responses (created_at_ms);
