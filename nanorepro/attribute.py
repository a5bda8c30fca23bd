"""`python -m nanorepro.attribute`: see `nanorepro.commands.attribute`.  Imported: the function."""

import sys

if __name__ == "__main__":
    from nanorepro.commands.attribute import main

    sys.exit(main())
else:
    from nanorepro.sweeps.attributing import attribute

    sys.modules[__name__] = attribute  # type: ignore[assignment]
