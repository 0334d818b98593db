"""`python -m mnistmp`: the same as the command `mnistmp`."""

import sys

from mnistmp.cli import main

if __name__ == "__main__":
    sys.exit(main())
