-- Times are UTC epoch milliseconds (…_at_ms), money is micro-credits (…_micros). CHECKs double the laws.

CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    is_admin INTEGER NOT NULL CHECK (is_admin IN (0, 1)),
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    balance_micros INTEGER NOT NULL DEFAULT 0,
    held_micros INTEGER NOT NULL DEFAULT 0 CHECK (held_micros >= 0),
    revision INTEGER NOT NULL DEFAULT 1,
    created_at_ms INTEGER NOT NULL,
    CHECK (held_micros <= balance_micros)
) STRICT;

CREATE TABLE sessions (
    key_digest BLOB PRIMARY KEY NOT NULL,
    user_id INTEGER REFERENCES users (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at_ms);

CREATE TABLE groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    multiplier_micros INTEGER NOT NULL CHECK (multiplier_micros BETWEEN 100 AND 1000000000),
    revision INTEGER NOT NULL DEFAULT 1,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users (id),
    group_id INTEGER NOT NULL REFERENCES groups (id),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    ciphertext BLOB NOT NULL,
    last4 TEXT NOT NULL CHECK (length(last4) = 4),
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    expires_at_ms INTEGER,
    credit_limit_micros INTEGER CHECK (credit_limit_micros > 0),
    credits_used_micros INTEGER NOT NULL DEFAULT 0 CHECK (credits_used_micros >= 0),
    credits_held_micros INTEGER NOT NULL DEFAULT 0 CHECK (credits_held_micros >= 0),
    models TEXT NOT NULL DEFAULT '',
    ip_allowlist TEXT NOT NULL DEFAULT '',
    revision INTEGER NOT NULL DEFAULT 1,
    created_at_ms INTEGER NOT NULL,
    last_used_at_ms INTEGER
) STRICT;
CREATE INDEX api_keys_by_user ON api_keys (user_id, id);
CREATE INDEX api_keys_by_group ON api_keys (group_id);

CREATE TABLE models (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    max_output_tokens INTEGER NOT NULL CHECK (max_output_tokens > 0),
    revision INTEGER NOT NULL DEFAULT 1,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE prices (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    model_id INTEGER NOT NULL REFERENCES models (id),
    version INTEGER NOT NULL,
    input_micros INTEGER NOT NULL CHECK (input_micros >= 0),
    cached_input_micros INTEGER CHECK (cached_input_micros >= 0),
    output_micros INTEGER NOT NULL CHECK (output_micros >= 0),
    per_request_micros INTEGER NOT NULL DEFAULT 0 CHECK (per_request_micros >= 0),
    created_at_ms INTEGER NOT NULL,
    UNIQUE (model_id, version)
) STRICT;

CREATE TABLE upstreams (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    dialect TEXT NOT NULL CHECK (dialect IN ('openai', 'anthropic', 'echo')),
    base_url TEXT NOT NULL,
    secret_ciphertext BLOB,
    pace_ms INTEGER NOT NULL DEFAULT 0 CHECK (pace_ms >= 0),
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE model_routes (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    model_id INTEGER NOT NULL REFERENCES models (id),
    upstream_id INTEGER NOT NULL REFERENCES upstreams (id),
    upstream_model TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    weight INTEGER NOT NULL DEFAULT 1 CHECK (weight > 0),
    UNIQUE (model_id, upstream_id)
) STRICT;
CREATE INDEX model_routes_by_upstream ON model_routes (upstream_id);

CREATE TABLE instances (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    heartbeat_at_ms INTEGER NOT NULL
) STRICT;

-- key_id, instance_id and upstream_id refer to rows that may be gone: a charge outlives them.
CREATE TABLE charges (
    id INTEGER PRIMARY KEY NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users (id),
    key_id INTEGER NOT NULL,
    key_name TEXT NOT NULL,
    model TEXT NOT NULL,
    price_id INTEGER NOT NULL REFERENCES prices (id),
    multiplier_micros INTEGER NOT NULL,
    instance_id INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('held', 'settled', 'released')),
    held_micros INTEGER NOT NULL CHECK (held_micros >= 0),
    input_held_micros INTEGER NOT NULL CHECK (input_held_micros BETWEEN 0 AND held_micros),
    settled_micros INTEGER NOT NULL DEFAULT 0 CHECK (settled_micros BETWEEN 0 AND held_micros),
    outcome TEXT CHECK (outcome IN ('complete', 'hung_up', 'cut', 'interrupted', 'failed')),
    usage_source TEXT CHECK (usage_source IN ('upstream', 'estimated')),
    input_tokens INTEGER,
    cached_input_tokens INTEGER,
    output_tokens INTEGER,
    upstream_id INTEGER,
    status INTEGER,
    first_byte_ms INTEGER,
    created_at_ms INTEGER NOT NULL,
    resolved_at_ms INTEGER,
    CHECK ((state = 'held') = (resolved_at_ms IS NULL)),
    CHECK ((state = 'held') = (outcome IS NULL)),
    CHECK (state = 'settled' OR settled_micros = 0)
) STRICT;
CREATE INDEX charges_by_user ON charges (user_id, id);
CREATE INDEX charges_by_key ON charges (key_id, id);
CREATE INDEX charges_open ON charges (instance_id, id) WHERE state = 'held';

CREATE TABLE grants (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users (id),
    amount_micros INTEGER NOT NULL CHECK (amount_micros <> 0),
    note TEXT NOT NULL,
    actor TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX grants_by_user ON grants (user_id, id);

-- actor is a user's name, or 'cli'; names and ids as they were then.
CREATE TABLE audit_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    client_ip TEXT
) STRICT;

INSERT INTO groups (name, multiplier_micros, created_at_ms) VALUES ('default', 1000000, 0);
