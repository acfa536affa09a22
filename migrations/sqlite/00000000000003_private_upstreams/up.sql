-- Whether an upstream may be on this machine or a private network: only where an admin says so.
ALTER TABLE upstreams ADD COLUMN allow_private INTEGER NOT NULL DEFAULT 0 CHECK (allow_private IN (0, 1));
