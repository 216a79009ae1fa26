"""Forms of common operations that XLA's CPU backend computes fast; on other devices the plain operations."""
