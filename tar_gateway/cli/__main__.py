"""``python -m tar_gateway.cli``: the command without its script."""

from tar_gateway.cli.main import main

main()
