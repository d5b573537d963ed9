"""Bytes of remote files: object stores, their credentials, and the range cache."""
