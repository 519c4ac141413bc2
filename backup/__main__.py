"""`python -m backup`."""

import os

from backup.cli import main

# Threads that still wait for a network that does not answer must not keep the shell waiting.
os._exit(main())
