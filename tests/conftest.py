"""What all tests share."""

import gc

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The comparison with TensorFlow last: what it imports, 0.6 GB, stays in the process."""
    items.sort(key=lambda item: item.path.name == "test_tensorflow.py")


def pytest_collection_finish():
    """Search for garbage seldom, and not in what is imported: compiling makes much of it."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
