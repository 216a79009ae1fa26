"""What is wrong with this machine or its set-up, and how to mend it: python -m experiments.doctor [--workdir=DIR]."""
