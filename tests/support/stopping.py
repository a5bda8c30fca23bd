"""Runs that end in the middle."""


class Stopped(Exception):
    """What a run is ended by."""


def after(share):
    """A progress that ends a run when more than a share of it is done."""

    def progress(done, total):
        if done > share * total:
            raise Stopped

    return progress
