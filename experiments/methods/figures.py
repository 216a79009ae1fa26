"""The page: its pictures and tables, each in its section."""
