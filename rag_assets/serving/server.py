"""Runs the application in a thread of its own, on the loopback interface."""

import socket
import threading
import time
from types import TracebackType

from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.runtime import Runtime
from rag_assets.serving.app import build_app

_START_SECONDS = 30


class Server:
    """The application, listening from entry to exit.

    Args:
        runtime: the parts.
        port: to listen on; 0: any that is free.

    Raises:
        ConfigurationError: on entry, if the port can't be used.
    """

    def __init__(self, runtime: Runtime, port: int) -> None:
        import uvicorn

        self._socket = listening(port)
        self.port: int = self._socket.getsockname()[1]
        configuration = uvicorn.Config(build_app(runtime), log_level="warning", access_log=False, lifespan="off")
        self._server = uvicorn.Server(configuration)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RagAssetsError(f"The server on port {self.port} did not start.")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()

    @property
    def url(self) -> str:
        """Where the reports are."""
        return f"http://127.0.0.1:{self.port}/reports"


def listening(port: int) -> socket.socket:
    """A socket on the loopback interface.

    Raises:
        ConfigurationError: the port can't be used.
    """
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(("127.0.0.1", port))
    except OSError as error:
        made.close()
        raise ConfigurationError(
            f"Port {port} can't be used: {error.strerror}. Choose another with --reports-port, or serving.port."
        ) from None
    return made
