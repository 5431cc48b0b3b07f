"""Benchmarks of migrax beside its peers: `python -m benchmarks.run`. What each measures is in README.md."""
