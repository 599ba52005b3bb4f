"""Does the judge say the same on SQLite, PostgreSQL and MariaDB? `python -m eval.portability`."""
