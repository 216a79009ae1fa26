"""The engine: algorithms run over many seeds and hyperparameters side by side."""
