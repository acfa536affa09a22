ALTER TABLE upstreams DROP COLUMN allow_private;
