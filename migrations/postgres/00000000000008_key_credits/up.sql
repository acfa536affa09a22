-- The credits of keys, apart from their settings: each call writes here twice, and rows this small share a page by the
-- hundred.
CREATE TABLE key_credits (
    key_id BIGINT PRIMARY KEY NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    credits_used_micros BIGINT NOT NULL DEFAULT 0 CHECK (credits_used_micros >= 0),
    credits_held_micros BIGINT NOT NULL DEFAULT 0 CHECK (credits_held_micros >= 0),
    last_used_at_ms BIGINT
) WITH (fillfactor = 70);
INSERT INTO key_credits (key_id, credits_used_micros, credits_held_micros, last_used_at_ms)
SELECT id, credits_used_micros, credits_held_micros, last_used_at_ms FROM api_keys;
ALTER TABLE api_keys DROP COLUMN credits_used_micros, DROP COLUMN credits_held_micros, DROP COLUMN last_used_at_ms;
