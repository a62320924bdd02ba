"""``python -m tar_gateway.cli``: the command without its script."""

from tar_gateway.cli.commands import main

main()
