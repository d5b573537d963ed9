"""Objects of S3, Google Cloud Storage and Azure as https addresses that obstore signs.

obstore finds the credentials (environment, key files, the machine's role) and signs; the bytes come
over the one transport of app.imagery.store.object_store. Nothing is put into the environment and
the settings of one source are no other's.
"""

from __future__ import annotations

import configparser
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

from app.errors import ConfigurationError, SourceUnavailable
from app.imagery.scene import name_of
from app.imagery.store import SignedRequest

LIFE_S = 3600
"""Seconds a signature is valid; it is used for half of them."""
_KEPT = 4096
"""Signed addresses remembered at once."""

_CLIENT = {"timeout": timedelta(seconds=5), "connect_timeout": timedelta(seconds=2)}
_RETRY = {"max_retries": 1, "retry_timeout": timedelta(seconds=5)}

_ADVICE = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account (the account of "
    "a machine also needs the role Service Account Token Creator on itself)",
    "az": "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY, or give the machine's identity "
    "the role Storage Blob Data Reader",
}
_AZURE_SAS = ("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN")
_AWS_FILES = {
    "AWS_CONFIG_FILE": "~/.aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
}
_AWS_ROLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_CLOUDS = {"s3": "S3", "gs": "Google Cloud Storage", "az": "Azure"}


@dataclass(frozen=True, slots=True)
class Bucket:
    """How the buckets of a source are read. `endpoint`: another server than the cloud's own,
    addressed by path. `requester_pays`, `region`, `profile`: S3. `account`: Azure's storage
    account, unless the address names it or AZURE_STORAGE_ACCOUNT_NAME does."""

    region: str = "us-east-1"
    requester_pays: bool = False
    endpoint: str = ""
    profile: str = ""
    anonymous: bool = False
    account: str = ""


@dataclass(frozen=True, slots=True)
class _Object:
    """A place of bytes: `cloud` is s3, gs or az; `base` the address of its server, which
    `has_container` when the container is part of its name."""

    cloud: str
    base: str
    container: str
    key: str
    account: str = ""
    has_container: bool = False

    @property
    def url(self) -> str:
        path = self.key if self.has_container else f"{self.container}/{self.key}"
        return f"{self.base}/{quote(path, safe='/-_.~')}"


class BucketAuthenticator:
    """Makes `s3://bucket/key`, `gs://bucket/key`, `az://container/path` and
    `abfss://container@account.dfs.core.windows.net/path` readable (an Authenticator)."""

    def __init__(self, bucket: Bucket) -> None:
        """ConfigurationError when the settings contradict each other."""
        if bucket.anonymous and bucket.requester_pays:
            raise ConfigurationError(
                "requester_pays needs credentials to charge: it cannot be anonymous"
            )
        self.bucket = bucket
        self._lock = threading.Lock()
        self._signers: dict[tuple[str, str], Any] = {}
        self._signed: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def address(
        self, href: str, headers: Mapping[str, str], *, renew: bool = False
    ) -> SignedRequest:
        """Return the signed address of an object; see Authenticator. `renew` finds the credentials
        anew: roles hand out short-lived ones."""
        try:
            place = self._located(href)
            url = place.url if self.bucket.anonymous else self._signed_url(href, place, renew)
        except LookupError as error:
            raise SourceUnavailable(name_of(href), str(error.args[0])) from None
        return SignedRequest(url, headers)

    def check(self, href: str) -> str | None:
        """Return what is wrong with the credentials for an object, or None."""
        try:
            self.address(href, {}, renew=True)
        except SourceUnavailable as error:
            return error.reason
        return None

    def advice(self, status: int) -> str:
        """Return what an operator can do about a read that stays refused."""
        if self.bucket.anonymous:
            return f"the storage answers {status}: it is not public; drop anonymous = true"
        payer = "" if self.bucket.requester_pays else "; who pays needs requester_pays = true"
        return (
            f"the storage answers {status}: check that the credentials may read it and, of S3, "
            f"that its region is {self.bucket.region}{payer}"
        )

    def _located(self, href: str) -> _Object:
        """Return where an object is; LookupError when its address does not say."""
        scheme, _, rest = href.partition("://")
        host, _, key = rest.partition("/")
        key = key.lstrip("/")
        if not key or {"", ".", ".."} & set(key.split("/")):
            raise LookupError("its address has an empty or dotted part, which cannot be signed")
        endpoint = self.bucket.endpoint.rstrip("/")
        if scheme == "s3":
            server = f"s3.{self.bucket.region}.amazonaws.com"
            # A dot in the bucket's name does not fit Amazon's certificate: it goes by path.
            if endpoint or "." in host:
                return _Object("s3", endpoint or f"https://{server}", host, key)
            return _Object("s3", f"https://{host}.{server}", host, key, has_container=True)
        if scheme == "gs":
            return _Object("gs", endpoint or "https://storage.googleapis.com", host, key)
        container, _, named = host.partition("@")
        account = self.bucket.account or _environment("AZURE_STORAGE_ACCOUNT_NAME")
        named = named.partition(".")[0] or account
        if account and named != account:
            raise LookupError(f"it is in the storage account {named}, the source reads {account}")
        if not named:
            raise LookupError("no storage account: set account, or AZURE_STORAGE_ACCOUNT_NAME")
        base = endpoint or f"https://{named}.blob.core.windows.net"
        return _Object("az", base, container, key, account=named)

    def _signed_url(self, href: str, place: _Object, renew: bool) -> str:
        if place.cloud == "az" and (sas := _environment(*_AZURE_SAS)):
            return f"{place.url}?{sas.lstrip('?')}"
        with self._lock:
            if renew:
                self._signers.clear()
                self._signed.clear()
            url, until = self._signed.get(href, ("", 0.0))
            if time.monotonic() < until:
                return url
            signer = self._signers.get((place.base, place.container))
        try:
            if signer is None:
                signer = self._signer(place)
            url = str(obstore.sign(signer, "GET", place.key, timedelta(seconds=LIFE_S)))
        except LookupError:
            raise
        except Exception:  # their texts may hold addresses and keys
            raise LookupError(
                f"no credentials for {_CLOUDS[place.cloud]}: {_ADVICE[place.cloud]}, or "
                "anonymous = true for what is public"
            ) from None
        if place.cloud == "az" and "%" in url.partition("?")[0]:
            # obstore signs the escaped name, Azure the name itself.
            raise LookupError(
                "its name has blanks or other characters that addresses escape, which Azure's "
                "account keys cannot sign here: use AZURE_STORAGE_SAS_KEY, or anonymous = true"
            )
        with self._lock:
            self._signers[place.base, place.container] = signer
            self._signed[href] = url, time.monotonic() + LIFE_S / 2
            while len(self._signed) > _KEPT:
                self._signed.popitem(last=False)
        return url

    def _signer(self, place: _Object) -> Any:  # noqa: ANN401 - obstore has no common base
        """Return obstore's store with every setting said, so that none is the environment's."""
        common: dict[str, Any] = {
            "client_options": {**_CLIENT, "allow_http": place.base.startswith("http://")},
            "retry_config": _RETRY,
            "skip_signature": False,
        }
        if place.cloud == "gs":
            return GCSStore(place.container, base_url=place.base, **common)
        if place.cloud == "az":
            return AzureStore(
                place.container,
                account_name=place.account,
                endpoint=place.base,
                use_emulator=False,
                **common,
            )
        return S3Store(
            place.container,
            region=self.bucket.region,
            endpoint=place.base,
            aws_endpoint_url_s3=place.base,
            virtual_hosted_style_request=place.has_container,
            request_payer=self.bucket.requester_pays,
            credential_provider=_shared_credentials(self.bucket.profile),
            **common,
        )


def servers_of(bucket: Bucket) -> tuple[str, ...]:
    """Return the hosts that stand behind the buckets of a source that has no `endpoint`."""
    if bucket.endpoint:
        return ()
    s3 = f"s3.{bucket.region}.amazonaws.com"
    return s3, f"*.{s3}", "storage.googleapis.com", "*.blob.core.windows.net"


def _environment(*names: str) -> str:
    """Return the first of these variables that is set."""
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _shared_credentials(profile: str) -> Any:  # noqa: ANN401 - obstore's provider
    """Return a provider of the keys in the files of the AWS command line, or None: obstore then
    takes those of the environment or of the machine's role. LookupError when there can be none."""
    if not profile and _environment("AWS_ACCESS_KEY_ID", *_AWS_ROLES):
        return None
    parser = configparser.RawConfigParser()
    for variable, file in _AWS_FILES.items():
        try:
            parser.read(Path(_environment(variable) or file).expanduser(), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, RuntimeError):
            raise LookupError(f"the file of {variable} cannot be read") from None
    wanted = profile or _environment("AWS_PROFILE") or "default"
    keys: dict[str, str] = {}
    for section in (f"profile {wanted}", wanted):
        keys |= dict(parser.items(section)) if parser.has_section(section) else {}
    credential = {
        "access_key_id": keys.get("aws_access_key_id"),
        "secret_access_key": keys.get("aws_secret_access_key"),
        "token": keys.get("aws_session_token"),
        "expires_at": None,
    }
    if credential["access_key_id"] and credential["secret_access_key"]:
        return lambda: credential
    if profile:
        raise LookupError(
            f"the profile {profile} holds no aws_access_key_id; of a profile that takes on a role "
            "or signs in, export the keys: aws configure export-credentials"
        )
    if _environment("AWS_EC2_METADATA_DISABLED").lower() == "true":
        raise LookupError(f"no credentials for S3: {_ADVICE['s3']}, or anonymous = true")
    return None
