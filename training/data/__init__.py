"""Labeled imagery: read, labeled, cut, split, and drawn as crops."""
