"""Folders of images and their content hashes."""
