"""`python -m api`: serve the REST API."""

from __future__ import annotations

import sys

import structlog
import uvicorn

from api.main import create_app
from models.garbage import spare_what_exists
from models.settings import SettingsError, load_settings
from models.telemetry import configure_logging

log = structlog.get_logger(__name__)


def main() -> None:
    """Serve until told to stop."""
    try:
        settings = load_settings().require_servers()
    except SettingsError as error:
        sys.exit(f"bellhop api cannot start: {error}")
    configure_logging(settings, "api")
    app = create_app(settings)
    spare_what_exists()
    log.info("serving", url=f"http://{settings.host}:{settings.api_port}")
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.api_port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        proxy_headers=True,
        forwarded_allow_ips=",".join(settings.trusted_proxies),
        server_header=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
