"""The base of all other packages: types, errors, losses, evaluation, and which examples a loss depends on."""
