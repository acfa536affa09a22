PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(sql,
    'CHECK (state = ''held'' OR state = ''settled'' OR state = ''released'')',
    'CHECK (state IN (''held'', ''settled'', ''released''))'),
    'CHECK (outcome = ''complete'' OR outcome = ''hung_up'' OR outcome = ''cut'' OR outcome = ''interrupted'' OR outcome = ''failed'')',
    'CHECK (outcome IN (''complete'', ''hung_up'', ''cut'', ''interrupted'', ''failed''))')
WHERE type = 'table' AND name = 'charges';
-- Any other change of the schema tells other connections to read it again.
CREATE TABLE schema_changed (id INTEGER);
DROP TABLE schema_changed;
PRAGMA writable_schema = RESET;
