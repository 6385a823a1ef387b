"""What ``benchmarks/vbpr.py`` is made of."""
