"""Checksums of files."""

from pathlib import Path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits; other threads run meanwhile.

    Raises:
        OSError: The file cannot be read.
    """
    import hashlib

    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
