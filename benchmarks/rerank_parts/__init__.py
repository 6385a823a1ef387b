"""Parts of ``benchmarks.rerank``."""
