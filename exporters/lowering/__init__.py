"""Exact algebra: one file per detector."""
