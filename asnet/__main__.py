"""``python -m asnet``: the command."""

import sys

from asnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
