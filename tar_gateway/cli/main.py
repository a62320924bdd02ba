"""``tar-gateway``: its commands, each imported only when it is used.

A download is over before a gateway's settings would be imported.
"""

from importlib import import_module

import click

_HOMES = {
    "check": "commands",
    "demo": "commands",
    "drain": "commands",
    "get": "get",
    "serve": "commands",
    "sign": "commands",
}


class _Commands(click.Group):
    """The commands, by the module that each is in."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _HOMES:
            return None
        home = import_module(f"tar_gateway.cli.{_HOMES[cmd_name]}")
        command: click.Command = getattr(home, cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tar_gateway")
def main() -> None:
    """Hand a user many files from a protected server as one streamed archive."""
