"""Classes and imagery on the pixels that a client requests."""
