"""A Dask cluster as the executor of jobs. Needs the extra `dask`.

Its scheduler runs whatever it is sent, unauthenticated: keep it on a private network or use TLS.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from app.errors import ConfigurationError

Result = TypeVar("Result")
CONNECT_S = 10


class Cluster(Executor):
    """The workers of a scheduler. They must reach the model, the imagery and the job's folder
    under the same paths as this process."""

    def __init__(self, address: str) -> None:
        """ConfigurationError when Dask is not installed or no scheduler answers at `address`."""
        try:
            from distributed import Client  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigurationError(
                "a scheduler needs Dask: pip install 'landcover[dask]'"
            ) from error
        try:
            self._client = Client(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"no Dask scheduler at {address}: {error}") from error
        self._executor = self._client.get_executor(pure=False)

    @property
    def threads(self) -> int:
        """Threads of all workers now; at least 1."""
        return max(1, int(sum(self._client.nthreads().values())))

    def submit(
        self,
        fn: Callable[..., Result],
        /,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Future[Result]:
        """Runs a call on some worker; tried again elsewhere when that worker dies."""
        future: Future[Result] = self._executor.submit(fn, *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves the cluster, which goes on."""
        self._executor.shutdown(wait=wait and not cancel_futures)
        self._client.close()
