"""Measuring a set of weights in the field's own protocols; `training.evaluate` is the command."""
