"""The benchmark: `python -m bench` (docs/benchmarks.md)."""
