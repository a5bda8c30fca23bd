"""`python -m nanorepro.reveal`: see `nanorepro.commands.reveal`."""

import sys

from nanorepro.commands.reveal import main

if __name__ == "__main__":
    sys.exit(main())
