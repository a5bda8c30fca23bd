"""HTML pages that are one file each: nothing is loaded from elsewhere, and nothing may be."""
