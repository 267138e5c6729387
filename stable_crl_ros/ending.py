"""How a process is asked to end."""

import signal


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return what asks for an end besides Ctrl-C: also a closed terminal, unless under nohup."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return (signal.SIGTERM,)
    return signal.SIGTERM, signal.SIGHUP
