"""Tensors in files of any program, read in blocks, so that memory does not grow with the file."""
