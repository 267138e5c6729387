"""What all processes of a stack share: ROS environment variables and the right to its name."""

import fcntl
import os
from pathlib import Path
import tempfile

from stable_crl_ros.graph import share

PARENT_VARIABLE = 'STABLE_CRL_PARENT_PID'  # whose death ends a node
RESPAWN_DELAY_S = 2.0
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


class LaunchError(RuntimeError):
    """A stack that cannot start, or that ended by itself; the message names the culprit."""


def ros_environment(base: dict[str, str] | None = None) -> dict[str, str]:
    """
    Return the environment of our processes: what the user has set, completed.

    :param base: the environment to complete; None for this process's own.
    """
    environment = dict(os.environ if base is None else base)
    environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if not any(environment.get(name) for name in PROFILE_VARIABLES):
        environment[PROFILE_VARIABLES[0]] = str(share('config') / 'fastdds.xml')
    return environment


class StackLock:
    """
    The right to run a stack in one ROS domain and namespace, held until `release` or death.

    :param namespace: without slashes around it.
    :param environment: where ROS_DOMAIN_ID is looked up.
    :raises LaunchError: naming the process that holds it.
    """

    def __init__(self, namespace: str, environment: dict[str, str]) -> None:
        path, domain = _lock_path(namespace, environment)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._file = open(path, 'a+')  # noqa: SIM115 held while the stack runs
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or 'unknown'
            self._file.close()
            raise LaunchError(
                f'a stack already runs in namespace {namespace!r} of ROS domain {domain} '
                f'(process {holder}); stop it with Ctrl-C or `kill -INT {holder}`, or give this '
                'one namespace:=NAME or another ROS_DOMAIN_ID') from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let another stack have it."""
        self._file.close()


def stack_runs(namespace: str, environment: dict[str, str]) -> bool:
    """Say whether a stack was started here, in this ROS domain and namespace, and still runs."""
    try:
        with open(_lock_path(namespace, environment)[0]) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for as long as the file is open
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _lock_path(namespace: str, environment: dict[str, str]) -> tuple[Path, str]:
    domain = environment.get('ROS_DOMAIN_ID') or '0'
    folder = Path(tempfile.gettempdir()) / f'stable_crl_ros-{os.getuid()}'
    return folder / f'{domain}-{namespace.replace("/", ".")}.lock', domain
