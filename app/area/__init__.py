"""A polygon's land cover: in hectares, as files, and how it changed."""
