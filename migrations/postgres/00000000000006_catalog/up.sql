-- A hidden model is not offered, but its calls work. A deleted one stays for the charges that refer to its prices; its
-- row gives up the name, and with `#`, which no name may have, it is never found by one.
ALTER TABLE models ADD COLUMN hidden BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE models ADD COLUMN deleted_at_ms BIGINT CHECK ((deleted_at_ms IS NULL) = (position('#' in name) = 0));

-- The newest charges of a price, for what they would cost at another.
CREATE INDEX charges_by_price ON charges (price_id, id);

-- How calls to an upstream ended, by the hour; upstream_id refers to a row that may be gone. latency_ms is the sum over
-- those answered, until the answer began.
CREATE TABLE upstream_hourly (
    hour_ms BIGINT NOT NULL CHECK (hour_ms % 3600000 = 0),
    upstream_id BIGINT NOT NULL,
    answered BIGINT NOT NULL CHECK (answered >= 0),
    busy BIGINT NOT NULL CHECK (busy >= 0),
    unreachable BIGINT NOT NULL CHECK (unreachable >= 0),
    timed_out BIGINT NOT NULL CHECK (timed_out >= 0),
    broke_off BIGINT NOT NULL CHECK (broke_off >= 0),
    bad_status BIGINT NOT NULL CHECK (bad_status >= 0),
    bad_secret BIGINT NOT NULL CHECK (bad_secret >= 0),
    unusable BIGINT NOT NULL CHECK (unusable >= 0),
    latency_ms BIGINT NOT NULL CHECK (latency_ms >= 0),
    PRIMARY KEY (hour_ms, upstream_id)
);

-- A price list that an admin has brought and not applied yet: one each.
CREATE TABLE price_lists (
    user_id BIGINT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    content TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);
