"""Saddle escape: how often saddles occur, what leaves them and when, and how long training stays near them (S1-S6)."""
