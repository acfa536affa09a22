-- A deleted user stays as a row without a login, since charges and grants refer to it.
ALTER TABLE users ADD COLUMN deleted_at_ms BIGINT;
ALTER TABLE users ADD CONSTRAINT users_deleted_check CHECK (deleted_at_ms IS NULL OR NOT (enabled OR is_admin));

-- hidden: nobody may choose it for a new key. restricted: only those of group_users may.
ALTER TABLE groups ADD COLUMN hidden BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE groups ADD COLUMN restricted BOOLEAN NOT NULL DEFAULT FALSE;
CREATE TABLE group_users (
    group_id BIGINT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id BIGINT NOT NULL REFERENCES users (id),
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_users_by_user ON group_users (user_id);

-- The list of everybody's keys by name.
CREATE INDEX api_keys_by_name ON api_keys (lower(name), id);

CREATE INDEX audit_events_by_actor ON audit_events (actor, id);
CREATE INDEX audit_events_by_action ON audit_events (action, id);
-- For beginnings of the text, whatever the database's language.
CREATE INDEX audit_events_by_subject ON audit_events (subject text_pattern_ops, id);

-- What was written down stays as it was written.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER audit_events_never_change BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_events_never_go BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER grants_never_change BEFORE UPDATE OR DELETE ON grants
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER grants_never_go BEFORE TRUNCATE ON grants
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
