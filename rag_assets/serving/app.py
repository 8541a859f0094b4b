"""The HTTP application: ``/health``, and ``/reports`` with every retained evaluation report.

Reports quote documents. So the application listens on the loopback interface, answers only to names of this machine (a web page elsewhere
can't reach it through a name of its own), and sends pages that may load nothing.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from rag_assets.evaluation import store
from rag_assets.evaluation.report.formatting import html_environment
from rag_assets.runtime import Runtime
from rag_assets.settings import NAME_PATTERN

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.responses import Response

HOSTS = ("127.0.0.1", "localhost", "[::1]", "testserver")
FILES = {
    "report.html": "text/html; charset=utf-8",
    "report.md": "text/markdown; charset=utf-8",
    "scores.json": "application/json",
    "evaluation.json": "application/json",
}
"""What of a report's folder is served, and as what."""
_RUN = re.compile(r"\d{4,}-\d{6,}")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def build_app(runtime: Runtime) -> "FastAPI":
    """The application over one runtime."""
    from fastapi import FastAPI, HTTPException
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import FileResponse, HTMLResponse, RedirectResponse

    app = FastAPI(title="rag-assets", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))

    @app.get("/health")
    def health() -> dict[str, str]:
        with runtime.database.transaction() as connection:
            connection.execute("SELECT 1")
        return {"status": "ok"}

    @app.get("/", include_in_schema=False)
    def home() -> "Response":
        return RedirectResponse("/reports")

    @app.get("/reports")
    def reports() -> "Response":
        listed = {name: store.reports(runtime, name) for name in runtime.settings.collections}
        page = html_environment().get_template("reports.html").render(collections=listed)
        return HTMLResponse(page, headers=_HEADERS)

    @app.get("/reports/{collection}/latest")
    def latest(collection: str) -> "Response":
        path = store.latest_report(runtime, collection) if re.fullmatch(NAME_PATTERN, collection) else None
        if path is None:
            raise HTTPException(404, f"There is no report of {collection!r} yet. Run `rag-assets evaluate`.")
        return RedirectResponse(f"/reports/{collection}/{Path(path).parent.name}/report.html")

    @app.get("/reports/{collection}/{run}/{file}")
    def report(collection: str, run: str, file: str) -> "Response":
        path = report_file(runtime, collection, run, file)
        if path is None:
            raise HTTPException(404, "There is no such report. /reports lists what there is.")
        return FileResponse(path, media_type=FILES[file], headers=_HEADERS)

    return app


def report_file(runtime: Runtime, collection: str, run: str, file: str) -> Path | None:
    """A file of a report, if the three names are of one: nothing else on the disk can be named by them."""
    if file not in FILES or not _RUN.fullmatch(run) or not re.fullmatch(NAME_PATTERN, collection):
        return None
    path = runtime.settings.home / "reports" / collection / run / file
    return path if path.is_file() else None


def report_url(port: int, path: Path) -> str:
    """Where a report is served, given the path of its page."""
    return f"http://127.0.0.1:{port}/reports/{path.parent.parent.name}/{path.parent.name}/{path.name}"
