"""Results of sweeps: labelled arrays with their provenance, their files, and choices made from them."""
