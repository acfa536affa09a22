-- A keyed hash by which servers of one database tell whether they share a master key. None: of an earlier release.
ALTER TABLE instances ADD COLUMN master_key TEXT;
