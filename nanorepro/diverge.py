"""`python -m nanorepro.diverge`: see `nanorepro.commands.diverge`."""

import sys

from nanorepro.commands.diverge import main

if __name__ == "__main__":
    sys.exit(main())
