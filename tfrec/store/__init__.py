"""Key-value storage of features and vectors."""
