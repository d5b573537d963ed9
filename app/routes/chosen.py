"""What a tile's query stands for: one selection of imagery, or for change two."""

from __future__ import annotations

from app.landcover import Selection
from app.routes.schemas import TileQuery
from app.services import Services


def selections_of(services: Services, query: TileQuery) -> list[Selection]:
    """In the order of their years; UnknownName or InvalidRequest."""
    if query.layer == "change":
        return [services.select(query.source, year, query.model) for year in query.years]
    chosen = services.select(query.source, query.year, query.model, query.datetime, query.fill)
    return [chosen]
