"""A folder of a Git repository as a source: the tree of one ref, through the ``git`` program.

A listing fetches that ref's last commit alone (depth 1) into a bare copy under the home folder; files are read from the
commit the listing named. A file's version is the id of its blob, which is a hash of its content.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from filelock import FileLock, Timeout

from rag_assets.documents.names import display_uri
from rag_assets.documents.source import FileContent, FileGone, FileUnreadable
from rag_assets.documents.sources.addresses import AddressRefused, public_address
from rag_assets.documents.sources.protocol import Names, SourceUnavailable, too_large, version_number
from rag_assets.errors import ConfigurationError, UnparsableDocument
from rag_assets.fingerprint import fingerprint, hash_bytes
from rag_assets.models import Listing, SkippedFile, SourceFile
from rag_assets.settings import SourcesSettings

_FETCH_PATIENCE = 10
"""A fetch may take so many times as long as a request."""
_BLOCK = 1 << 20
_LFS = b"version https://git-lfs.github.com/spec/"
_LFS_BYTES = 1024
_KINDS = {
    b"120000": "is a symbolic link (links are not followed)",
    b"160000": "is a submodule (submodules are not read)",
}


class GitSource:
    """Files of one commit. ``git+https://HOST/REPOSITORY.git@REF#FOLDER``; the ref is the remote's HEAD if none is named."""

    parallel = 1

    def __init__(self, url: str, settings: SourcesSettings, cache: Path) -> None:
        self._url = url
        self._settings = settings
        parts = urlsplit(url)
        path, _, ref = parts.path.rpartition("@") if "@" in parts.path else (parts.path, "", "")
        self._remote = urlunsplit((parts.scheme.removeprefix("git+"), parts.netloc, path, "", ""))
        self._host, self._port = parts.hostname or "", parts.port or (80 if parts.scheme == "git+http" else 443)
        self._ref = unquote(ref) or "HEAD"
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]*", self._ref):
            raise ConfigurationError(
                f"The source {url} names the ref {self._ref!r}, which git would not take. Correct it."
            )
        folder = unquote(parts.fragment).strip("/")
        self._prefix = os.fsencode(folder) + b"/" if folder else b""
        self._folder = cache / f"{fingerprint([self._remote, self._ref])[:16]}.git"
        self._blobs: dict[bytes, str] | None = None

    @property
    def description(self) -> str:
        """Its URL."""
        return self._url

    def listing(self, exclude: Sequence[str] = ()) -> Listing:
        """See ``DocumentSource``."""
        commit = self._fetch()
        tree = self._git("ls-tree", "-r", "-z", "--long", "--full-tree", commit)
        names, files, skipped, blobs, below = Names(exclude), [], [], {}, not self._prefix
        for entry in tree.split(b"\0"):
            facts, _, name = entry.partition(b"\t")
            if not name.startswith(self._prefix) or not facts:
                continue
            below = True
            path = name[len(self._prefix) :]
            mode, _, blob, size = facts.split()
            if names.ignored(path):
                continue
            problem = _KINDS.get(mode) or names.problem(path)
            if problem:
                skipped.append(SkippedFile(path, display_uri(path), problem))
                continue
            blobs[path] = blob.decode()
            files.append(SourceFile(path, display_uri(path), int(size), version_number("blob", blobs[path])))
        if not below:
            raise ConfigurationError(
                f"The source {self._url}: commit {commit[:10]} has no folder {os.fsdecode(self._prefix)!r}. Correct the part "
                "behind `#`."
            )
        self._blobs = blobs
        files.sort(key=lambda file: file.path)
        skipped.sort(key=lambda file: file.path)
        return Listing(tuple(files), tuple(skipped))

    def read(self, path: bytes, max_bytes: int) -> FileContent:
        """See ``DocumentSource``."""
        blob = self._blob(path)
        data = bytearray()
        for block in self._content(path, blob):
            data += block
            if len(data) > max_bytes:
                raise too_large(self._size(blob), max_bytes)
        whole = bytes(data)
        if len(whole) < _LFS_BYTES and whole.startswith(_LFS):
            raise UnparsableDocument(
                "is a pointer of Git LFS, whose file is kept elsewhere; store it in Git itself, or exclude it"
            )
        return FileContent(whole, hash_bytes(whole), len(whole), version_number("blob", blob))

    def digest(self, path: bytes) -> tuple[str, int, int]:
        """See ``DocumentSource``."""
        blob, size = self._blob(path), 0
        state = hashlib.blake2b(digest_size=len(hash_bytes(b"")) // 2)
        for block in self._content(path, blob):
            state.update(block)
            size += len(block)
        return state.hexdigest(), size, version_number("blob", blob)

    def is_there(self, path: bytes) -> bool:
        """Whether the commit that was listed has it: a commit never changes."""
        if self._blobs is None:
            self.listing()
        return path in (self._blobs or {})

    def _blob(self, path: bytes) -> str:
        if self._blobs is None:
            self.listing()
        blob = (self._blobs or {}).get(path)
        if blob is None:
            raise FileGone(f"{display_uri(path)} is not in the commit that was listed.")
        return blob

    def _size(self, blob: str) -> int:
        return int(self._git("cat-file", "-s", blob))

    def _content(self, path: bytes, blob: str) -> Iterator[bytes]:
        command = [*self._command(), "cat-file", "blob", blob]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=_environment()
        ) as git:
            assert git.stdout is not None
            try:
                while block := git.stdout.read(_BLOCK):
                    yield block
            finally:
                git.stdout.close()  # a reader that has seen enough ends git, too
        if git.returncode:
            raise FileUnreadable(f"{display_uri(path)} can't be read from the copy of {self._url} in {self._folder}.")

    def _fetch(self) -> str:
        """Bring the copy up to date; returns the commit."""
        patience = self._settings.timeout_seconds * _FETCH_PATIENCE
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{self._folder}.lock", timeout=patience):
                if not (self._folder / "HEAD").is_file():
                    self._run(["git", "init", "--bare", "--quiet", str(self._folder)], patience)
                self._git(*self._pinned(), "fetch", "--quiet", "--no-tags", "--depth", "1", "--no-write-fetch-head",
                          self._remote, f"+{self._ref}:refs/rag-assets/source", patience=patience)  # fmt: skip
                return self._git("rev-parse", "refs/rag-assets/source^{commit}").decode().strip()
        except Timeout:
            raise SourceUnavailable(
                f"Another process has been fetching {self._url} for {patience:g} s. Wait for it, or end it."
            ) from None

    def _pinned(self) -> list[str]:
        """Options that make git connect to the very address that was checked, and follow no redirect from there."""
        if not self._remote.startswith(("http://", "https://")):
            return []
        seconds = f"{self._settings.timeout_seconds:.0f}"
        try:
            address = public_address(self._host, self._port, self._settings.allow_hosts)
        except AddressRefused as error:
            raise ConfigurationError(f"The source {self._url}: {error}") from None
        except OSError as error:
            raise SourceUnavailable(f"The source {self._url}: its host can't be resolved: {error.strerror}.") from None
        bracketed = f"[{address}]" if ":" in address else address
        resolve = f"http.curloptResolve={self._host}:{self._port}:{bracketed}"
        # A server that falls silent is given up like any other; only one that goes on sending may take longer.
        stalled = ["-c", "http.lowSpeedLimit=1", "-c", f"http.lowSpeedTime={seconds}"]
        return [*stalled, "-c", "http.followRedirects=false", "-c", resolve]

    def _command(self) -> list[str]:
        return ["git", "--git-dir", str(self._folder)]

    def _git(self, *arguments: str, patience: float | None = None) -> bytes:
        return self._run([*self._command(), *arguments], patience or self._settings.timeout_seconds)

    def _run(self, command: Sequence[str], patience: float) -> bytes:
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=patience,
                env=_environment(),
                check=False,
            )
        except FileNotFoundError:
            raise ConfigurationError(
                f"The source {self._url} needs the program git, which is not installed. Install it."
            ) from None
        except subprocess.TimeoutExpired:
            raise SourceUnavailable(
                f"The source {self._url} did not answer within {patience:g} s. Nothing was changed."
            ) from None
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[:400]
            raise SourceUnavailable(
                f"The source {self._url} can't be fetched (within sources.timeout_seconds = "
                f"{self._settings.timeout_seconds:g}): {said} Nothing was changed; check address and ref."
            )
        return done.stdout


def _environment() -> dict[str, str]:
    """git asks nobody, speaks these protocols only, and does not take another repository's variables for its own."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith("GIT_SSH")
    }
    ssh = kept.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=10")
    return {
        **kept, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:http:https:ssh", "GIT_SSH_COMMAND": ssh, "LC_ALL": "C",
    }  # fmt: skip
