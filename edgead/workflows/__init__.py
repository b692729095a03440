"""What a verb does, as the Python API."""
