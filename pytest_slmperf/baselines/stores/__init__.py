"""Where baselines are kept: folders, SQLite, PostgreSQL."""
