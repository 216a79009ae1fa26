"""The study of practice: what an update costs, whether its gradient is right, and advice about training."""
