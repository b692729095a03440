"""Frozen feature extractors, truncated where reading stops."""
