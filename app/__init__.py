"""The online half: imagery in, classified tiles out. Imports `model`, never `training`."""

from model.proj import use_own_proj

__version__ = "0.1.0"

use_own_proj()
