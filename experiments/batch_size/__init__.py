"""Batch size, sharpness and generalisation (claims G1-G8): the study and its report."""
