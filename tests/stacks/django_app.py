"""A Django project with logins that are kept in its database, wrapped as in its ``wsgi.py``."""

import atexit
import tempfile
from pathlib import Path

import django
from django.conf import settings
from django.contrib.auth import authenticate, get_user_model, login
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import condition

from tar_gateway import BundleMiddleware
from tests.stacks import files

_place = tempfile.TemporaryDirectory()
atexit.register(_place.cleanup)

settings.configure(
    SECRET_KEY="for signed cookies",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # quick, and for tests
    LOGIN_URL="/login",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(Path(_place.name, "db.sqlite3")),
        }
    },
)
django.setup()


def version(request: HttpRequest, name: str) -> str:
    """Give a file's validator, by which Django answers conditions."""
    return files.etag(name)


@condition(etag_func=version)
def file(request: HttpRequest, name: str) -> HttpResponseBase:
    """Give a file as one that is there, or a stream."""
    if name in files.FILES:
        content = files.FILES[name]
        return HttpResponse(content, headers={"Content-Length": len(content)})
    if name not in files.STREAMS:
        raise Http404
    size, _ = files.STREAMS[name]
    length = {} if size is None else {"Content-Length": size}
    return StreamingHttpResponse(files.stream(name), headers=length)


@csrf_exempt
def enter(request: HttpRequest) -> HttpResponse:
    """Begin a session."""
    user = authenticate(
        request, username=request.POST.get("user"), password=request.POST.get("password")
    )
    if user is None:
        raise PermissionDenied
    login(request, user)
    return HttpResponse("welcome")


@login_required
def secret(request: HttpRequest) -> HttpResponse:
    """Show who is logged in what nobody else may have."""
    return HttpResponse(files.SECRET)


def listed(request: HttpRequest) -> HttpResponse:
    """Name the files of an archive."""
    return HttpResponse(files.LIST, headers={"X-Archive-Files": "tar"})


def tar(request: HttpRequest, name: str) -> StreamingHttpResponse:
    """Give an archive of data at hand."""
    archive = files.archive(name)
    return StreamingHttpResponse(
        archive, content_type="application/x-tar", headers={"Content-Length": archive.size}
    )


urlpatterns = [
    path("files/<name>", file),
    path("login", enter),
    path("private/secret.txt", secret),
    path("list", listed),
    path("tar/<name>", tar),
]

call_command("migrate", verbosity=0)
get_user_model().objects.create_user(files.USER, password=files.PASSWORD)
connections.close_all()  # a server may fork from here

application = BundleMiddleware(get_wsgi_application())
