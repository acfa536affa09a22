-- A hidden model is not offered, but its calls work. A deleted one stays for the charges that refer to its prices; its
-- row gives up the name, and with `#`, which no name may have, it is never found by one.
ALTER TABLE models ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0 CHECK (hidden IN (0, 1));
ALTER TABLE models ADD COLUMN deleted_at_ms INTEGER CHECK ((deleted_at_ms IS NULL) = (instr(name, '#') = 0));

-- The newest charges of a price, for what they would cost at another.
CREATE INDEX charges_by_price ON charges (price_id, id);

-- How calls to an upstream ended, by the hour; upstream_id refers to a row that may be gone. latency_ms is the sum over
-- those answered, until the answer began.
CREATE TABLE upstream_hourly (
    hour_ms INTEGER NOT NULL CHECK (hour_ms % 3600000 = 0),
    upstream_id INTEGER NOT NULL,
    answered INTEGER NOT NULL CHECK (answered >= 0),
    busy INTEGER NOT NULL CHECK (busy >= 0),
    unreachable INTEGER NOT NULL CHECK (unreachable >= 0),
    timed_out INTEGER NOT NULL CHECK (timed_out >= 0),
    broke_off INTEGER NOT NULL CHECK (broke_off >= 0),
    bad_status INTEGER NOT NULL CHECK (bad_status >= 0),
    bad_secret INTEGER NOT NULL CHECK (bad_secret >= 0),
    unusable INTEGER NOT NULL CHECK (unusable >= 0),
    latency_ms INTEGER NOT NULL CHECK (latency_ms >= 0),
    PRIMARY KEY (hour_ms, upstream_id)
) STRICT;

-- A price list that an admin has brought and not applied yet: one each.
CREATE TABLE price_lists (
    user_id INTEGER PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    content TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;
