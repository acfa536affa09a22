-- PostgreSQL keeps a row on its page while there is room. This keeps the numbers of both engines' migrations together.
SELECT 1;
