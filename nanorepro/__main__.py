"""`python -m nanorepro` and the command `nanorepro`: see `nanorepro.commands.main`."""

import sys

from nanorepro.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
