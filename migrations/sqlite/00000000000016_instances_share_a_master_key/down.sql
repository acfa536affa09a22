ALTER TABLE instances DROP COLUMN master_key;
