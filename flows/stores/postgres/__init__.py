"""PostgreSQL, the source: sessions, snapshots, and the structure of the table."""
