"""What everything else stands on: types, errors, losses, evaluations and what an example's loss depends on."""
