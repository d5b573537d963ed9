"""Classes as images and files."""
