"""Parts of the store's benchmark: a small model, and a server that is asked."""
