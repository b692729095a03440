"""Kernels for NVIDIA GPUs and what launches them: preprocess, searches and post as libedgead defines them."""
