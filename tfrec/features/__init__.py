"""Feature encoding: the one place where raw columns become model inputs."""
