-- SQLite's table keeps both references: the ledger, which alone opens charges, does not have them looked up. This keeps
-- the numbers of both engines' migrations together.
SELECT 1;
