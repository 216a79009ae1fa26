"""Momentum and adaptive moments: claims M1-M14."""
