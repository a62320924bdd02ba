"""The recipes for frameworks in the papers, run as they stand there, under a server."""

import gzip
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.stacks.servers import SERVERS, serving
from tests.support.papers import block

REPORTS = {"february.pdf": b"february" * 1000, "january.pdf": b"january" * 1000}
BUNDLE = "/reports/?bundle=february.pdf&bundle=january.pdf"

# Each framework's recipe by its marker: the package that it needs, and the URL of an archive.
FRAMEWORKS = {
    "example: flask": ("flask", "/shop" + BUNDLE),
    "example: pyramid": ("pyramid", BUNDLE),
    "example: bottle": ("bottle", BUNDLE),
    "example: falcon": ("falcon", BUNDLE),
    "example: webob": ("webob", "/" + BUNDLE.rpartition("/")[2]),
    "example: bare wsgi": ("tar_gateway", "/"),
    "example: flask view": ("flask", "/mine.zip"),
}

# Those that return an archive, and serve no files beside it.
ARCHIVES = {"example: bare wsgi", "example: flask view"}

# What the papers say to write instead for a zip.
FOR_A_ZIP = {"TarStream": "ZipStream", "application/x-tar": "application/zip", ".tar": ".zip"}

MODELS = """
from django.contrib.auth.models import User
from django.db import models

class Report(models.Model):
    name = models.CharField(max_length=80)
    owner = models.ForeignKey(User, on_delete=models.CASCADE)
    created = models.DateTimeField(auto_now_add=True)
    file = models.FileField()
"""

URLS = """
from django.contrib.auth.decorators import login_required
from django.http import FileResponse
from django.shortcuts import get_object_or_404
from django.urls import path
from reports import views, zip_views
from reports.models import Report

@login_required
def report(request, name):
    found = get_object_or_404(Report, name=name, owner=request.user)
    return FileResponse(found.file, headers={"ETag": f'"{found.pk}"'})

urlpatterns = [
    path("mine.tar", views.mine),
    path("mine.zip", zip_views.mine),
    path("reports/<name>", report),
]
"""

SETTINGS = """
INSTALLED_APPS += ["reports"]
ALLOWED_HOSTS = ["127.0.0.1"]
MEDIA_ROOT = BASE_DIR / "media"
"""

# Makes the database, somebody with reports and somebody without, and prints their cookies.
FILL = """
import sys
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.test import Client
from reports.models import Report

for name, reports in [("ada", {reports!r}), ("bob", {{}})]:
    user = User.objects.create_user(name)
    for file, content in reports.items():
        Report.objects.create(name=file, owner=user, file=ContentFile(content, file))
    client = Client()
    client.force_login(user)
    print(client.cookies[settings.SESSION_COOKIE_NAME].OutputString().partition(";")[0])
"""


def needs(*packages: str) -> None:
    """Skip where a package is not installed."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@contextmanager
def asking(module: str, place: Path) -> Iterator[HTTPConnection]:
    """Serve a module that lies in a directory."""
    with serving(SERVERS["waitress"], module, place) as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        yield connection
        connection.close()


def unpack(connection: HTTPConnection, target: str, **headers: str) -> dict[str, bytes]:
    """Download an archive of which the length is told, and give its files."""
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    assert int(answer.headers["Content-Length"]) == len(body)
    if target.endswith(".zip"):
        assert answer.headers["Content-Type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(body)) as zipped:
            return {name: zipped.read(name) for name in zipped.namelist()}
    assert answer.headers["Content-Type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        return {name: archive.extractfile(name).read() for name in archive.getnames()}


def status(connection: HTTPConnection, target: str, **headers: str) -> int:
    connection.request("GET", target, headers=headers)
    with connection.getresponse() as answer:
        answer.read()
        return answer.status


def recipe(marker: str, place: Path, files: Mapping[str, bytes]) -> str:
    """Write a framework's recipe and the files that it serves; give the URL of an archive."""
    package, target = FRAMEWORKS[marker]
    needs(package, "waitress")
    reports = place / "reports"
    reports.mkdir()
    for file, content in files.items():
        (reports / file).write_bytes(content)
    (place / "recipe.py").write_text(block(marker).replace("/srv/reports", str(reports)))
    return target


@pytest.mark.parametrize("marker", FRAMEWORKS)
def test_a_frameworks_recipe_serves_archives(marker: str, tmp_path: Path):
    target = recipe(marker, tmp_path, REPORTS)
    with asking("recipe", tmp_path) as connection:
        assert unpack(connection, target) == REPORTS


@pytest.mark.parametrize("marker", [name for name in FRAMEWORKS if name not in ARCHIVES])
def test_a_frameworks_recipe_serves_files_that_are_compressed(marker: str, tmp_path: Path):
    stored = {name: gzip.compress(name.encode()) for name in ("log.gz", "a.tar.gz", "b.svgz")}
    target = recipe(marker, tmp_path, stored)
    asked = f"{target.partition('?')[0]}?{'&'.join(f'bundle={name}' for name in stored)}"
    with asking("recipe", tmp_path) as connection:
        assert unpack(connection, asked) == stored


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Path, list[str]]:
    """Make a Django project of the two recipes; give its directory and two users' cookies."""
    needs("django", "waitress")
    place = tmp_path_factory.mktemp("project")

    def run(*command: str, given: str | None = None) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=place, input=given, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-m", "django", "startproject", "mysite", ".")
    run("manage.py", "startapp", "reports")
    (place / "reports/models.py").write_text(MODELS)
    view = block("example: django view")
    (place / "reports/views.py").write_text(view)
    for tar, zipped in FOR_A_ZIP.items():
        assert tar in view
        view = view.replace(tar, zipped)
    (place / "reports/zip_views.py").write_text(view)
    (place / "mysite/urls.py").write_text(URLS)
    (place / "mysite/wsgi.py").write_text(block("example: django project"))
    with (place / "mysite/settings.py").open("a") as settings:
        settings.write(SETTINGS)
    run("manage.py", "makemigrations", "reports")
    run("manage.py", "migrate")
    printed = run("manage.py", "shell", given=FILL.format(reports=REPORTS))
    return place, re.findall(r"sessionid=\w+", printed)


@pytest.fixture(scope="module")
def site(project) -> Iterator[HTTPConnection]:
    place, _ = project
    with asking("mysite.wsgi", place) as connection:
        yield connection


@pytest.mark.parametrize("archive", ["/mine.tar", "/mine.zip"])
def test_the_recipe_for_a_django_view_streams_a_models_files(project, site, archive: str):
    _, (ada, bob) = project
    assert unpack(site, archive, Cookie=ada) == REPORTS
    assert unpack(site, archive, Cookie=bob) == {}
    assert status(site, archive) == 302


def test_the_recipe_for_a_django_project_bundles_what_its_users_may_have(
    project, site: HTTPConnection
):
    _, (ada, bob) = project
    assert unpack(site, BUNDLE, Cookie=ada) == REPORTS
    assert status(site, BUNDLE, Cookie=bob) == 404
    assert status(site, BUNDLE) == 403
