"""PostgreSQL, the source: sessions, snapshots, and what the table looks like."""
