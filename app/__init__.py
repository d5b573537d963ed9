"""The online half: imagery in, classified tiles out. Imports `model`, never `training`."""

__version__ = "0.1.0"
