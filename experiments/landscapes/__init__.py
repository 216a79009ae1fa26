"""Every landscape with its stationary points, and the paths of five methods over it."""
