"""How often the arm listens: each command moves a whole period's way, so rate is speed."""

_BURST = 2.0  # commands a late publisher may catch up with at once
_SLACK = 1.05  # a publisher whose clock runs this much fast is not cut off


class RateLimit:
    """
    Admit one command per period on average; one delayed by the network is made up for.

    :param period_s: control period, s.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._credit, self._since = _BURST, 0.0

    def admit(self, now: float) -> bool:
        """
        Take one command, or not.

        :param now: monotonic seconds.
        """
        earned = (now - self._since) * _SLACK / self._period_s
        self._credit, self._since = min(_BURST, self._credit + earned), now
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True
