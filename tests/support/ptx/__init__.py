"""PTX carried out on the CPU by NumPy: what NVRTC makes of a kernel, tested without a GPU."""
