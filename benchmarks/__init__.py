"""The latency harness, which knows no model."""
