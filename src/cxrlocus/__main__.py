"""``python -m cxrlocus``."""

import sys

from cxrlocus.cli import main

if __name__ == "__main__":
    sys.exit(main())
