"""Study `order`: the order in which examples are seen, and variance reduction (claims O1-O6, O1a)."""
