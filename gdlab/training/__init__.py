"""The engine: runs algorithms over many seeds and hyperparameters in parallel."""
