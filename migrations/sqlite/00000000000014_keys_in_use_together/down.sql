CREATE TABLE key_credits_by_key (
    key_id INTEGER PRIMARY KEY NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    credits_used_micros INTEGER NOT NULL DEFAULT 0 CHECK (credits_used_micros >= 0),
    credits_held_micros INTEGER NOT NULL DEFAULT 0 CHECK (credits_held_micros >= 0),
    last_used_at_ms INTEGER
) STRICT;
INSERT INTO key_credits_by_key (key_id, credits_used_micros, credits_held_micros, last_used_at_ms)
SELECT key_id, credits_used_micros, credits_held_micros, last_used_at_ms FROM key_credits ORDER BY key_id;
DROP TABLE key_credits;
ALTER TABLE key_credits_by_key RENAME TO key_credits;
