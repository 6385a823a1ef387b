"""One adapter a format: raw files to interactions, users and items."""
