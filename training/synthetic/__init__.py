"""Demo City: synthetic imagery of a dense town, with its true land cover."""
