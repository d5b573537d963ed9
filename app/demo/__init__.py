"""Made places with NAIP-like imagery and their true land cover: Demo County, which is shown, and
Demo City, a dense town to train on."""

from app.demo.city_files import write_city
from app.demo.files import county_bounds, write_county

__all__ = ["county_bounds", "write_city", "write_county"]
