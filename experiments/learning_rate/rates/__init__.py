"""L1, L3-L11, L14: borders, schedules, warm-up, transfer, batch sizes; `figures` imports all that registers."""
