"""A download that never starts over: plan, ranges, files. It knows no terminal and no server.

::

    from tar_gateway.client import Download, Options

    result = Download(url, Options(directory=Path("reports"), jobs=4)).run()
"""

from tar_gateway.client.download import Download
from tar_gateway.client.failures import DownloadError
from tar_gateway.client.options import Options, Result
from tar_gateway.client.patience import Patience
from tar_gateway.client.session import Access

__all__ = ["Access", "Download", "DownloadError", "Options", "Patience", "Result"]
