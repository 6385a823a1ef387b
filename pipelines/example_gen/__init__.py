"""ExampleGen of our own: canonical tables to joined tf.Examples, on Beam."""
