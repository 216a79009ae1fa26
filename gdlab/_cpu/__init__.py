"""What makes XLA's CPU backend fast; elsewhere all of it is the plain operation."""
