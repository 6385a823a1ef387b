"""Custom TFX components, one a file."""
