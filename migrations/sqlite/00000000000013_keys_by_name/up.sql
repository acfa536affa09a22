-- A user's keys in the order of their names, as API Keys lists them.
CREATE INDEX api_keys_by_user_and_name ON api_keys (user_id, lower(name), id);
