"""Demo County: a small made place with NAIP-like imagery of two years and its true land cover."""

from app.demo.files import write_county

__all__ = ["write_county"]
