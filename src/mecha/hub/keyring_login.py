"""A token that the keyring of the system holds for one server, where the `keyring` package is installed."""

from mecha.hub.addresses import server

SERVICE = "mecha"
"""What the entries are filed under; the user name is the address: `keyring set mecha https://huggingface.co`."""


def held_token(endpoint: str) -> str:
    """Return the token for a server; nothing where there is no keyring, or it is locked."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return ""
    try:
        return (keyring.get_password(SERVICE, server(endpoint)) or "").strip()
    except (KeyringError, OSError, RuntimeError):
        return ""  # a device without a session, or a keyring that nobody has unlocked
