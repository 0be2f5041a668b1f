"""Benchmarks, side by side with peers on the same server in one run: `make bench`. Never part of the tests."""
