"""`python -m nanorepro.compare`: see `nanorepro.commands.compare`.  Imported: the function."""

import sys

if __name__ == "__main__":
    from nanorepro.commands.compare import main

    sys.exit(main())
else:
    from nanorepro.analysis.comparison import compare

    sys.modules[__name__] = compare  # type: ignore[assignment]
