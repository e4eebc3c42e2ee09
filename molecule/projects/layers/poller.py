"""A poller that bears no second one beside it, as a bot that asks for updates does."""

import fcntl
import os
import signal
import sys
import time

if os.environ.get("POLLER_FAILS"):
    sys.exit("the poller has no token")
lock = os.open(os.path.expanduser("~/poller.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit("another poller is running")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    time.sleep(1)
