"""The address of gunicorn's worker class: ``tar_gateway.worker.GatewayWorker``."""

from tar_gateway.server.worker import GatewayWorker

__all__ = ["GatewayWorker"]
