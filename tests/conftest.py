"""What all tests share."""

import gc


def pytest_collection_finish():
    """Leave what is imported out of every search for garbage: compiling makes many of them."""
    gc.freeze()
