"""Configurations of the studies: each module has `get_config()`."""
