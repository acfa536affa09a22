-- The credits of keys, apart from their settings: each call writes here twice, and rows this small share a page by the
-- hundred.
CREATE TABLE key_credits (
    key_id INTEGER PRIMARY KEY NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    credits_used_micros INTEGER NOT NULL DEFAULT 0 CHECK (credits_used_micros >= 0),
    credits_held_micros INTEGER NOT NULL DEFAULT 0 CHECK (credits_held_micros >= 0),
    last_used_at_ms INTEGER
) STRICT;
INSERT INTO key_credits (key_id, credits_used_micros, credits_held_micros, last_used_at_ms)
SELECT id, credits_used_micros, credits_held_micros, last_used_at_ms FROM api_keys;
ALTER TABLE api_keys DROP COLUMN credits_used_micros;
ALTER TABLE api_keys DROP COLUMN credits_held_micros;
ALTER TABLE api_keys DROP COLUMN last_used_at_ms;
