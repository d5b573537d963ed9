"""The online half: imagery in, classified tiles out. Imports `model`, never `training`."""
