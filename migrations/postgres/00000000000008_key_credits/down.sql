ALTER TABLE api_keys ADD COLUMN credits_used_micros BIGINT NOT NULL DEFAULT 0 CHECK (credits_used_micros >= 0);
ALTER TABLE api_keys ADD COLUMN credits_held_micros BIGINT NOT NULL DEFAULT 0 CHECK (credits_held_micros >= 0);
ALTER TABLE api_keys ADD COLUMN last_used_at_ms BIGINT;
UPDATE api_keys SET credits_used_micros = c.credits_used_micros, credits_held_micros = c.credits_held_micros,
    last_used_at_ms = c.last_used_at_ms FROM key_credits c WHERE c.key_id = api_keys.id;
DROP TABLE key_credits;
