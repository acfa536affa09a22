-- The credits of keys no longer in order of the key, but of use: the ledger moves the row of a key that was long unused to
-- the end, so that those in use lie together, and a commit writes a few pages however many keys there are. The row's number
-- is its place; a key's row is found by the index.
CREATE TABLE key_credits_by_use (
    key_id INTEGER NOT NULL UNIQUE REFERENCES api_keys (id) ON DELETE CASCADE,
    credits_used_micros INTEGER NOT NULL DEFAULT 0 CHECK (credits_used_micros >= 0),
    credits_held_micros INTEGER NOT NULL DEFAULT 0 CHECK (credits_held_micros >= 0),
    last_used_at_ms INTEGER
) STRICT;
INSERT INTO key_credits_by_use (key_id, credits_used_micros, credits_held_micros, last_used_at_ms)
SELECT key_id, credits_used_micros, credits_held_micros, last_used_at_ms FROM key_credits
ORDER BY last_used_at_ms, key_id;
DROP TABLE key_credits;
ALTER TABLE key_credits_by_use RENAME TO key_credits;
