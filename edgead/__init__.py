"""edgead compiles image-anomaly detectors into verified engines for inspection lines.

Importing this package loads neither numpy nor any engine: everything heavy comes on first use.
"""

from __future__ import annotations

__version__ = "0.1.0"
