"""`python -m handfast.demo`: the same as `handfast demo`."""

from handfast.client.cli.exits import leave
from handfast.demo.main import main

leave(main())
