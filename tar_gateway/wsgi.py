"""What a WSGI server loads: the gateway, set up from the environment.

``gunicorn --config python:tar_gateway.gunicorn_conf``, or any other server with
``tar_gateway.wsgi:application``. Raise `SettingsError` when a setting is missing or wrong.
"""

import os

from tar_gateway.settings import Settings
from tar_gateway.sources.locations import file_server
from tar_gateway.web.gateway import Gateway

_settings = Settings.from_environment(os.environ)

application = Gateway(file_server(_settings), _settings)
