"""Tests of the package against the local enclave."""

import faulthandler

# Shows where the tests hang, and ends them.
faulthandler.dump_traceback_later(1200, exit=True)
