"""`sources.toml`: what an operator says of each source.

```toml
[[source]]
id = "county"
type = "directory"
path = "/data/naip"
```
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.imagery.scene import Resampling


class SourceConfig(BaseModel):
    """What every source has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="the name clients ask for: lower-case letters, digits and dashes",
    )
    title: str = Field("", description="shown to people; the id by default")
    attribution: str = Field("", description="shown on every map; the service's by default")
    bands: tuple[int, int, int, int] = Field(
        (1, 2, 3, 4), description="which bands of a file are red, green, blue, near infrared"
    )
    nodata: float | None = Field(
        None, ge=0, le=255, description="no data where all four bands have it; the file's own or 0"
    )
    resampling: Resampling = Field(
        "average", description="how pixels finer than the grid's become one"
    )
    force: bool = Field(
        False, description="serve images coarser than twice what the model was trained for"
    )


class RemoteConfig(SourceConfig):
    """What every source on a network has."""

    read_s: float = Field(
        15, gt=0, le=120, description="longest a read of one scene may take, retries included, s"
    )
    request_s: float = Field(5, gt=0, le=60, description="longest silence within one request, s")
    retries: int = Field(2, ge=0, le=5, description="how often a failed request is sent again")
    connections: int = Field(16, ge=1, le=64, description="requests under way at once")
    requester_pays: bool = Field(
        False, description="s3: reads are charged to your account (x-amz-request-payer)"
    )
    region: str = Field("us-east-1", description="s3: the bucket's region, for its signature")
    endpoint: str = Field("", description="s3: address of another server than Amazon's")
    profile: str = Field("", description="s3: name of the credentials to use; the usual chain")
    anonymous: bool = Field(False, description="s3: send no credentials (public buckets)")


class DirectoryConfig(SourceConfig):
    """A directory of GeoTIFFs, or a glob of them."""

    type: Literal["directory"]
    path: Path = Field(description="a directory (with everything below it), a file or a glob")


class MosaicConfig(RemoteConfig):
    """A MosaicJSON of COGs."""

    type: Literal["mosaicjson"]
    url: str = Field(description="path or https:// address of the MosaicJSON")


class CogsConfig(RemoteConfig):
    """A list of COGs on a web server or in S3."""

    type: Literal["cogs"]
    urls: tuple[str, ...] = Field((), description="https:// or s3:// addresses")
    list: str = Field("", description="path of a text file of addresses, one a line")


class StacConfig(RemoteConfig):
    """A STAC API, static catalogue or item collection. (stac helper: yours)"""

    type: Literal["stac"]
    url: str = Field("", description="address of the API, catalogue or item collection")
    preset: Literal["", "planetary-computer", "earth-search"] = Field(
        "", description="a catalogue whose address, collection, asset and signing are known"
    )
    collection: str = Field("", description="collection to search")
    asset: str = Field("", description="asset that holds the image")
    signing: Literal["auto", "always", "never"] = Field("never", description="SAS tokens")


AnyConfig = Annotated[
    DirectoryConfig | MosaicConfig | CogsConfig | StacConfig, Field(discriminator="type")
]
