"""`python -m nanorepro.attribute`: see `nanorepro.commands.attribute`."""

import sys

from nanorepro.commands.attribute import main

if __name__ == "__main__":
    sys.exit(main())
