"""`python -m nanorepro.sweep`: see `nanorepro.commands.sweep`."""

import sys

from nanorepro.commands.sweep import main

if __name__ == "__main__":
    sys.exit(main())
