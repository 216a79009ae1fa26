"""One update of gradient descent, composed of a sampler, an estimator and an optimizer."""
