"""`python -m edgead` is the `edgead` command."""

from __future__ import annotations

from edgead.cli.app import main

if __name__ == "__main__":
    main()
