"""`python -m holdfast.client.cli`: the same as `holdfast`."""

from holdfast.client.cli.app import main

main()
