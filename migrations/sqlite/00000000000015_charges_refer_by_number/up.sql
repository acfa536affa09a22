-- SQLite looks both up for next to nothing, and goes on to. This keeps the numbers of both engines' migrations together.
SELECT 1;
