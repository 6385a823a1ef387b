"""Scripts that measure; the numbers in RESULTS.md are theirs."""
