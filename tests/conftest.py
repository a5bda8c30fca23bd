"""What all tests share."""

import gc


def pytest_collection_finish():
    """Search for garbage seldom, and not in what is imported: compiling makes much of it."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
