"""What the process that forks the workers loads first: Ctrl-C ends it in silence.

Ctrl-C reaches the whole group. While that process still imports, Python's own handler
would print where. Afterwards multiprocessing has it ignore the signal.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)
# Blocked by the driver until here.
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
