"""SavedModels: signatures, warm-up records, golden requests."""
