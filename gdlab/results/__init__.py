"""Results of sweeps: labelled arrays with where they came from, their files, and what is read off them."""
