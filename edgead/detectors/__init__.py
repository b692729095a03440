"""Detectors, one file each; torch lives here."""
