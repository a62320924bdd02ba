"""Makes plain `gunicorn` in this directory run the gateway; the settings are the package's."""

from tar_gateway.gunicorn_conf import *  # noqa: F403
