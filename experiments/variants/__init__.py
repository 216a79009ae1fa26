"""Study `variants`: full batch, single example and mini-batch compared (claims V1-V13)."""
