"""`python -m handfast.client.cli`: the same as `handfast`."""

from handfast.client.cli.app import main

main()
