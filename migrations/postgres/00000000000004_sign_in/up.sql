-- One-time links by which a person sets a password. A user without one has the password_hash '', which fits nothing.
CREATE TABLE sign_in_links (
    user_id BIGINT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    digest BYTEA NOT NULL UNIQUE CHECK (length(digest) = 32),
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL
);

-- Sessions learn where they are used. Those that were begun before do not know: everybody signs in once more.
-- id is for the owner's list of sessions; it has none until the second factor was given.
DELETE FROM sessions;
ALTER TABLE sessions ADD COLUMN id TEXT;
ALTER TABLE sessions ADD COLUMN client_ip TEXT;
ALTER TABLE sessions ADD COLUMN user_agent TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN last_seen_at_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN confirmed_at_ms BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX sessions_by_id ON sessions (id);

-- confirmed_at_ms: when the first code was given, which switched it on. last_step: of the last code that was used.
CREATE TABLE second_factors (
    user_id BIGINT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    ciphertext BYTEA NOT NULL,
    confirmed_at_ms BIGINT,
    last_step BIGINT NOT NULL DEFAULT 0,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE recovery_codes (
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (user_id, digest)
);

-- subject is a keyed hash of a name or an address; full_at_ms is when its allowance is full again.
CREATE TABLE sign_in_throttles (
    subject BYTEA PRIMARY KEY NOT NULL CHECK (length(subject) = 32),
    full_at_ms BIGINT NOT NULL
);
CREATE INDEX sign_in_throttles_by_end ON sign_in_throttles (full_at_ms);
