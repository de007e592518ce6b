"""``python -m tdtrack`` is ``tdtrack``."""

import sys

from tdtrack.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
