"""The benchmark `throughput`: many runs at once, against loops, vmap, PyTorch and the machine's peak."""
