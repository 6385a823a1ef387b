"""Fitting: input pipelines, strategies, optimizers, callbacks."""
