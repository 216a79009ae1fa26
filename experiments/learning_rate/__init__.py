"""Step size and schedules: borders of stability, the edge, warm-up, schedules, scaling rules (L1-L15)."""
