"""Studies: scripts that run from the command line and end in results, pictures and graded claims."""
