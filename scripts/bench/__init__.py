"""The suites of scripts/benchmark.py."""
