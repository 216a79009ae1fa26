"""The ledger: every claim of every study with its verdict, on one page."""
