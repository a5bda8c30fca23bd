"""`python -m nanorepro.diverge`: see `nanorepro.commands.diverge`.  Imported: the function."""

import sys

if __name__ == "__main__":
    from nanorepro.commands.diverge import main

    sys.exit(main())
else:
    from nanorepro.sweeps.diverging import diverge

    sys.modules[__name__] = diverge  # type: ignore[assignment]
