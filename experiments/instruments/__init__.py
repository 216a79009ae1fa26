"""The instruments of gdlab on a Flax model that knows nothing of gdlab."""
