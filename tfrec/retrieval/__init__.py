"""Top-k indexes of stock TensorFlow operations."""
