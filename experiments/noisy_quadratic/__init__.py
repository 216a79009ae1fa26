"""Steps to a target against batch size on the noisy quadratic model, from closed forms alone."""
