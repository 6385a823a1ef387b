"""Raw logs to canonical tables, splits, encoded arrays."""
