"""Errors that say in a line what is wrong with what was asked for, and those that are bugs."""


def is_refusal(error: BaseException) -> bool:
    """Tell a refusal of ours, or of the operating system, from a bug."""
    return isinstance(error, OSError) or type(error).__module__.startswith('stable_crl_ros.')
