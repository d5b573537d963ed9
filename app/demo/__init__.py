"""Demo County: a fictional county with NAIP-like imagery and its true land cover."""

from app.demo.files import county_bounds, write_county

__all__ = ["county_bounds", "write_county"]
