"""``python -m tdtrack`` is ``tdtrack``."""

import sys

from tdtrack.cli import main

sys.exit(main())
