"""The only ctypes binding of libedgead: `preprocessor.py` and `postprocessor.py` over `_library.py`."""
