"""Importers of foreign checkpoints, one file per source."""
