"""Local minima: escape by noise, Kramers' law, added noise, how minima differ, and ensembles (claims N1-N7)."""
