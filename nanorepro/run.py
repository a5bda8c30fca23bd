"""`python -m nanorepro.run`: see `nanorepro.commands.run`."""

import sys

from nanorepro.commands.run import main

if __name__ == "__main__":
    sys.exit(main())
