"""Decoding, frames, preprocessing, the map operator and pictures for people."""
