"""What makes a range server a cloud's: it checks signatures as S3, Google and Azure document."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AWS_KEY, AWS_SECRET = "AKIATESTTESTTESTTEST", "not-a-secret"
AZURE_ACCOUNT, AZURE_KEY = "naipaccount", base64.b64encode(b"not a secret either").decode()


def is_signed_for_s3(path: str, headers: Mapping[str, str]) -> bool:
    """Return whether an address has a valid AWS Signature Version 4."""
    query = dict(parse_qsl(urlsplit(path).query))
    try:
        _, date, region, service, end = query["X-Amz-Credential"].split("/")
        key = f"AWS4{AWS_SECRET}".encode()
        for part in (date, region, service, end):
            key = hmac.digest(key, part.encode(), "sha256")
        scope = f"{date}/{region}/{service}/{end}"
        text = f"AWS4-HMAC-SHA256\n{query['X-Amz-Date']}\n{scope}\n"
        text += _canonical(path, headers, "X-Amz-Signature")
    except (KeyError, ValueError):
        return False
    return hmac.digest(key, text.encode(), "sha256").hex() == query["X-Amz-Signature"]


@dataclass(frozen=True)
class GoogleAccount:
    """A service account: its key file, and whether an address is signed with it."""

    private: rsa.RSAPrivateKey

    @property
    def key_file(self) -> str:
        pem = self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        return json.dumps({
            "type": "service_account", "private_key": pem, "private_key_id": "1",
            "client_email": "reader@test.iam.gserviceaccount.com", "client_id": "2",
            "token_uri": "http://127.0.0.1:1/token",
        })  # fmt: skip

    def is_signed(self, path: str, headers: Mapping[str, str]) -> bool:
        """Return whether an address has a valid GOOG4-RSA-SHA256 signature of Google's host, which
        obstore signs for an emulator too."""
        headers = {**headers, "host": "storage.googleapis.com"}
        query = dict(parse_qsl(urlsplit(path).query))
        try:
            scope = query["X-Goog-Credential"].partition("/")[2]
            text = f"GOOG4-RSA-SHA256\n{query['X-Goog-Date']}\n{scope}\n"
            text += _canonical(path, headers, "X-Goog-Signature")
            self.private.public_key().verify(
                bytes.fromhex(query["X-Goog-Signature"]),
                text.encode(),
                padding.PKCS1v15(),
                hashes.SHA256(),
            )
        except (KeyError, ValueError, InvalidSignature):
            return False
        return True


def google_account() -> GoogleAccount:
    """Return an account with a new key."""
    return GoogleAccount(rsa.generate_private_key(65537, 2048))


def is_signed_for_azure(path: str, headers: Mapping[str, str]) -> bool:
    """Return whether an address has a valid service SAS of its blob (version 2020-12-06 on)."""
    parts = urlsplit(path)
    query = dict(parse_qsl(parts.query))
    fields = [query.get(name, "") for name in ("sp", "st", "se")]
    # An emulator has the account in the path, Azure in the host.
    account = f"/{AZURE_ACCOUNT}" if headers.get("Host", "").startswith(AZURE_ACCOUNT) else ""
    fields.append(f"/blob{account}{unquote(parts.path)}")
    fields += [query.get(name, "") for name in ("si", "sip", "spr", "sv", "sr", "", "ses")]
    fields += [""] * 5  # cache-control, disposition, encoding, language, type of the answer
    key = base64.b64decode(AZURE_KEY)
    digest = hmac.digest(key, "\n".join(fields).encode(), "sha256")
    return base64.b64encode(digest).decode() == query.get("sig")


Check = Callable[[str, Mapping[str, str]], bool]


def _canonical(path: str, headers: Mapping[str, str], signature: str) -> str:
    """Return the hash of the canonical request of an address that only its host is signed with."""
    parts = urlsplit(path)
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name != signature
    )
    query = "&".join(f"{name}={value}" for name, value in pairs)
    host = {name.lower(): value for name, value in headers.items()}["host"]
    text = f"GET\n{parts.path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    return hashlib.sha256(text.encode()).hexdigest()
