"""The run of all figures is asked for by NANOREPRO_CLAIMS; stored numbers are always read."""

import os

collect_ignore = [] if "NANOREPRO_CLAIMS" in os.environ else ["test_paper_claims.py"]
