"""Splits, loops and resume state of training."""
