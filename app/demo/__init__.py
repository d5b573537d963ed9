"""Demo County: a small made place with NAIP-like imagery of two years and its true land cover."""

from app.demo.files import county_bounds, write_county

__all__ = ["county_bounds", "write_county"]
