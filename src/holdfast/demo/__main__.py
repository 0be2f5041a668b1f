"""`python -m holdfast.demo`: the same as `holdfast demo`."""

from holdfast.client.cli.exits import leave
from holdfast.demo.main import main

leave(main())
