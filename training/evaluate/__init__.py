"""Accuracy of a model file on labeled scenes, as JSON that can be pooled."""
