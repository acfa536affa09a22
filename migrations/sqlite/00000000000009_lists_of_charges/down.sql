CREATE INDEX charges_by_price ON charges (price_id, id);
CREATE INDEX charges_by_user ON charges (user_id, created_at_ms, id);
CREATE INDEX charges_by_key ON charges (key_id, created_at_ms, id);
DROP TABLE charges_of_keys;
DROP TABLE charges_of_users;
