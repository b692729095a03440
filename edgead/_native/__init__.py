"""The only ctypes binding of libedgead: kernels, models and sessions over `_library.py` and `image.py`."""
