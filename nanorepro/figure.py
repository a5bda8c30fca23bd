"""`python -m nanorepro.figure`: see `nanorepro.commands.figure`."""

import sys

from nanorepro.commands.figure import main

if __name__ == "__main__":
    sys.exit(main())
