"""Losses and negative sampling."""
