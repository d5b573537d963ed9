"""A polygon's land cover: in hectares, as files, and how it changed."""

from app.area.geojson import areas_of, read_areas
from app.area.handlers import change, estimate, export, statistics

__all__ = ["areas_of", "change", "estimate", "export", "read_areas", "statistics"]
