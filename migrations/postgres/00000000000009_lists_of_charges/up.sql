-- Charges in the orders in which people look at them. The rollups enter a charge here, many at once and in order, some time
-- after it was resolved: each that was resolved before usage_progress.rolled_ms is here. A call writes none of it.
CREATE TABLE charges_of_users (
    user_id BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    charge_id BIGINT NOT NULL,
    price_id BIGINT NOT NULL,
    PRIMARY KEY (user_id, created_at_ms, charge_id)
);
INSERT INTO charges_of_users (user_id, created_at_ms, charge_id, price_id)
SELECT c.user_id, c.created_at_ms, c.id, c.price_id FROM charges c
WHERE c.resolved_at_ms < (SELECT rolled_ms FROM usage_progress) ORDER BY 1, 2, 3;
-- The newest charges of a price, for what they would cost at another.
CREATE INDEX charges_of_users_by_price ON charges_of_users (price_id, charge_id);

CREATE TABLE charges_of_keys (
    user_id BIGINT NOT NULL,
    key_id BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    charge_id BIGINT NOT NULL,
    PRIMARY KEY (user_id, key_id, created_at_ms, charge_id)
);
INSERT INTO charges_of_keys (user_id, key_id, created_at_ms, charge_id)
SELECT c.user_id, c.key_id, c.created_at_ms, c.id FROM charges c
WHERE c.resolved_at_ms < (SELECT rolled_ms FROM usage_progress) ORDER BY 1, 2, 3, 4;

DROP INDEX charges_by_user;
DROP INDEX charges_by_key;
DROP INDEX charges_by_price;
