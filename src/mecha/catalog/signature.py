"""Who signed a catalog: `model_catalog.toml.minisig` beside it, made by minisign, checked against one public key."""

from pathlib import Path

from mecha.errors import ConfigError, DiskError, IntegrityError

SIGNATURE_SUFFIX = ".minisig"
_LARGEST_BYTES = 4096
_SIGN_HINT = (
    "`minisign -S -m {file}` signs it; whoever holds the secret key of public_key has to do so after each change."
)


def check_signature(file: Path, content: bytes, key: str, *, where: str) -> None:
    """Refuse the content of a catalog that the holder of a key did not sign.

    Args:
        file: the catalog; its signature lies beside it.
        content: what was read from it, and is used.
        key: public key of minisign, 56 letters that begin with RW.
        where: names the catalog in messages.

    Raises:
        IntegrityError: there is no signature, it is none, another key's, or of other bytes.
        ConfigError: the key is none, or the library that checks is not installed.
        DiskError: the signature cannot be read.
    """
    try:
        import minisign
    except ImportError as error:
        raise ConfigError(
            f"{where}: a signature is asked for (catalog.public_key, or MECHA_CATALOG_KEY), and nothing here can check "
            "one",
            hint="pip install 'mecha[signed]'",
        ) from error
    hint = _SIGN_HINT.format(file=file.name)
    try:
        public = minisign.PublicKey.from_base64(key.strip())
    except minisign.Error as error:
        raise ConfigError(
            f'catalog.public_key: got "{key}"; expected a public key of minisign, 56 letters that begin with RW',
            hint="It is the second line of minisign.pub.",
        ) from error
    beside = file.with_name(f"{file.name}{SIGNATURE_SUFFIX}")
    written = _read(beside, where, hint)
    try:
        signature = minisign.Signature.from_bytes(written)
    except minisign.Error as error:
        raise IntegrityError(f"{beside}: got {error}; expected a signature of minisign", hint=hint) from error
    if not signature.is_prehashed():
        raise IntegrityError(
            f"{beside}: got a signature of the old form; expected one of the hashed form",
            hint=f"{hint} (0.10 or later)",
        )
    try:
        public.verify(content, signature)
    except minisign.Error as error:
        raise IntegrityError(
            f"{where}: {beside.name} is not a signature of these bytes by the key {key.strip()[:12]}… ({error}); "
            "nothing of the catalog was used",
            hint=hint,
        ) from error


def _read(beside: Path, where: str, hint: str) -> bytes:
    try:
        with beside.open("rb") as file:
            return file.read(_LARGEST_BYTES)
    except FileNotFoundError as error:
        raise IntegrityError(f"{where}: not signed: {beside} is not there", hint=hint) from error
    except OSError as error:
        raise DiskError(f"{beside}: cannot be read: {(error.strerror or str(error)).lower()}") from error
