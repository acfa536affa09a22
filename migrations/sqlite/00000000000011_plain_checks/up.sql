-- The same checks said so that SQLite only compares: for a list of more than two it builds a table of its own, for every row
-- that is written. What is stored does not change, and so no row is written anew; see the end of
-- https://sqlite.org/lang_altertable.html#making_other_kinds_of_table_schema_changes.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(sql,
    'CHECK (state IN (''held'', ''settled'', ''released''))',
    'CHECK (state = ''held'' OR state = ''settled'' OR state = ''released'')'),
    'CHECK (outcome IN (''complete'', ''hung_up'', ''cut'', ''interrupted'', ''failed''))',
    'CHECK (outcome = ''complete'' OR outcome = ''hung_up'' OR outcome = ''cut'' OR outcome = ''interrupted'' OR outcome = ''failed'')')
WHERE type = 'table' AND name = 'charges';
-- Any other change of the schema tells other connections to read it again.
CREATE TABLE schema_changed (id INTEGER);
DROP TABLE schema_changed;
PRAGMA writable_schema = RESET;
