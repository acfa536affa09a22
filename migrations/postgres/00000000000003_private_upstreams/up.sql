-- Whether an upstream may be on this machine or a private network: only where an admin says so.
ALTER TABLE upstreams ADD COLUMN allow_private BOOLEAN NOT NULL DEFAULT FALSE;
