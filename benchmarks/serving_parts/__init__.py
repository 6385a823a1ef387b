"""Parts of ``benchmarks/serving.py``: its models and its measuring processes."""
