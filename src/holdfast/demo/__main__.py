"""`python -m holdfast.demo`: the same as `holdfast demo`."""

from holdfast.demo.main import main

raise SystemExit(main())
