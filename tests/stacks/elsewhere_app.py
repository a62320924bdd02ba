"""The bare function, with bundles of another server's files."""

import os

from tar_gateway import BundleMiddleware, Upstream
from tests.stacks.bare_app import app

application = BundleMiddleware(app, source=Upstream(os.environ["STACKS_UPSTREAM"]))
