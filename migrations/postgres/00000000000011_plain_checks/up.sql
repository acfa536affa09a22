-- PostgreSQL checks a list without a table. This keeps the numbers of both engines' migrations together.
SELECT 1;
