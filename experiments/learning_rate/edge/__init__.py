"""L2, L12, L13, L15: the edge of stability and warm-up; `figures` imports all that registers."""
