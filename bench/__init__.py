"""Benchmarks: `python -m bench` beside peers, and `bench.micro`, `bench.dials`, `bench.growth`."""
