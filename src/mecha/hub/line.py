"""The HTTP clients of a download.

To load the certificates that are trusted takes as long as 10 MB over a fast line. It is done when the first https
address is opened, be it by a redirect; a mirror on the LAN over plain http is asked without.
"""

import ssl
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2

from mecha.hub.line_faults import line_settings


class Line:
    """Opens addresses, for any number of threads; proxies and certificates are those of the environment.

    Raises:
        ConfigError: the environment names a proxy that cannot be used.
    """

    def __init__(self, timeout: httpx2.Timeout) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._trusting: httpx2.Client | None = None
        # No authority is trusted in this context, so should anything ever ask it for https, that fails.
        self._plain = self._made(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def opened(self, url: str, headers: Mapping[str, str]) -> httpx2.Response:
        """Send a GET and return its answer, of which no redirect was followed and no body was read.

        Raises:
            httpx2.HTTPError: no answer.
            httpx2.InvalidURL: it is no address.
            ConfigError: the environment names certificates that cannot be used.
        """
        client = self._client(url)
        return client.send(client.build_request("GET", url, headers=headers), stream=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            for client in (self._plain, self._trusting):
                if client is not None:
                    client.close()

    def _client(self, url: str) -> httpx2.Client:
        # The way to a proxy can be https where the address is not.
        if urlsplit(url).scheme == "http" and not getproxies():
            return self._plain
        with self._lock:
            if self._trusting is None:
                self._trusting = self._made(True)
            return self._trusting

    def _made(self, verify: ssl.SSLContext | bool) -> httpx2.Client:
        with line_settings():
            return httpx2.Client(timeout=self._timeout, follow_redirects=False, verify=verify)
