"""What every test gets: a private ROS domain, quiet logs, the `ros` fixture, a leak check."""

import atexit
import contextlib
import fcntl
from functools import cache, partial
import os
from pathlib import Path
import re
import shutil
import signal
import socket
import sys
import tempfile
import time

from disks import read_only, small_disk  # noqa: F401 fixtures of every test
import pytest
from stable_crl_ros.patience import wait_until

ROOT = Path(__file__).resolve().parents[1]
# 102 and up would fall into Linux's ephemeral ports; people's own stacks live in the low ones.
TEST_DOMAINS = range(70, 102)
RUN_MARK = 'STABLE_CRL_TEST_RUN'
# What names one of these runs robots in real time, so only one such file runs at a time.
REAL_TIME = re.compile(r"rclpy|\.nodes\b|launcher|servo_bus|'demo'")
LONG_LIVED = ('resource_tracker', 'forkserver')  # multiprocessing's own, one per process


def _reserve_domain():
    """
    Reserve a ROS domain no other test process of this machine uses.

    :returns: the domain id and the open lock file, which must stay open.
    """
    folder = Path(tempfile.gettempdir()) / f'stable_crl_ros-test-domains-{os.getuid()}'
    folder.mkdir(exist_ok=True)
    shift = os.getpid() % len(TEST_DOMAINS)
    for domain in [*TEST_DOMAINS[shift:], *TEST_DOMAINS[:shift]]:
        lock = open(folder / str(domain), 'w')  # noqa: SIM115 held until the process ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        if _port_free(7400 + 250 * domain + 10):
            return domain, lock
        lock.close()
    raise pytest.UsageError(f'all ROS domains {TEST_DOMAINS} are in use; end other test runs')


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Where several processes share the work (`-n`), keep each file, and all robots, in one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _group(config.rootpath / nodeid.partition('::')[0])
    return ByFile(config, log)


@cache
def _group(path):
    return 'robots' if REAL_TIME.search(path.read_text()) else path.name


def _port_free(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(('', port))
        except OSError:
            return False
    return True


def _set_environment():
    domain, lock = _reserve_domain()
    logs = tempfile.mkdtemp(prefix='stable_crl_ros-logs-')
    atexit.register(shutil.rmtree, logs, ignore_errors=True)
    os.environ.update({
        'ROS_DOMAIN_ID': str(domain),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_PYTHON_CHECK_FIELDS': '1',
        'ROS_LOG_DIR': logs,
        'OMP_NUM_THREADS': '1',
        RUN_MARK: f'{os.getpid()}-{time.time_ns()}',
    })
    profile = ROOT / 'config' / 'fastdds.xml'
    if profile.exists():
        os.environ.setdefault('FASTRTPS_DEFAULT_PROFILES_FILE', str(profile))
    from stable_crl_ros.sim.gl_backend import choose_backend  # with one thread for numpy
    choose_backend()  # some tests import mujoco before anything of ours does
    return lock


_DOMAIN_LOCK = _set_environment()


class Ros:
    """
    A private rclpy context and executor for one test.

    Nodes under test are made with `context=ros.context` and handed to `add`, which destroys
    them at the end; `node` makes a plain probe node.
    """

    def __init__(self):
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        self.context = Context()
        rclpy.init(context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self._nodes = []

    def add(self, node):
        """Spin this node with the others; it is destroyed when the test ends."""
        self.executor.add_node(node)
        self._nodes.append(node)
        return node

    def node(self, name='probe', **kwargs):
        """Make a plain node to talk to the ones under test."""
        from rclpy.node import Node
        return self.add(Node(name, context=self.context, **kwargs))

    def parameters(self, **values):
        """Return `parameter_overrides` for a node's constructor."""
        from rclpy.parameter import Parameter
        return [Parameter(name, value=value) for name, value in values.items()]

    def spin_until(self, condition, timeout_s=10.0, what='the condition'):
        """
        Spin until `condition()` is true and return its value.

        :raises AssertionError: after `timeout_s`.
        """
        value = wait_until(condition, timeout_s, lambda: self.executor.spin_once(timeout_sec=0.02))
        if value is None:
            raise AssertionError(f'{what} did not hold within {timeout_s} s')
        return value

    def spin_for(self, seconds):
        """Spin for a time, to show that something does not happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, service_type, name, request=None, timeout_s=10.0, node=None):
        """
        Call a service of this process once it is there and return its response.

        Of another process the first answer may get lost: ask it with `nodes.client.Client`.

        :param service_type: such as `std_srvs.srv.Trigger`.
        :param request: a filled request; an empty one when None.
        :param node: the node that calls; a fresh probe when None.
        """
        caller = node or self.node(f'caller_{len(self._nodes)}')
        client = caller.create_client(service_type, name)
        self.spin_until(client.service_is_ready, timeout_s, f'service {name}')
        future = client.call_async(request or service_type.Request())
        self.spin_until(future.done, timeout_s, f'an answer of {name}')
        caller.destroy_client(client)
        return future.result()

    def close(self):
        """Destroy every node, the executor and the context."""
        import rclpy
        for node in reversed(self._nodes):
            self.executor.remove_node(node)
            node.destroy_node()
        self.executor.shutdown()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def ros():
    """Give a private rclpy context with an executor; see `Ros`."""
    session = Ros()
    yield session
    session.close()


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """Give a folder with the small checkpoints first, second and gcbc, which act differently."""
    from learning_samples import lively, write_checkpoint
    import torch
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp('checkpoints')
    for name, seed in (('first', 1), ('second', 2)):
        write_checkpoint(folder / f'{name}.safetensors', agent=lively(seed))
    write_checkpoint(folder / 'gcbc.safetensors', 'gcbc', lively(3, 'gcbc'))
    return folder


@pytest.fixture
def first(checkpoints):
    """Give the path of a small checkpoint."""
    return checkpoints / 'first.safetensors'


@pytest.fixture
def second(checkpoints):
    """Give the path of another small checkpoint."""
    return checkpoints / 'second.safetensors'


@pytest.fixture(scope='session')
def real_data():
    """Give the folder of the real WidowX recordings, or skip where they are not."""
    folder = Path(os.environ.get('STABLE_CRL_TEST_DATA')
                  or ROOT.parent / 'shared' / 'data' / 'widowx_real')
    if not (folder / 'manifest.json').is_file():
        pytest.skip(f'no real recordings in {folder}; name their folder in $STABLE_CRL_TEST_DATA')
    return folder


def _offspring():
    """Return {pid: command line} of living processes that this test run started."""
    mark = f'{RUN_MARK}={os.environ[RUN_MARK]}'.encode()
    found = {}
    for entry in Path('/proc').iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            state, parent = (entry / 'stat').read_text().rpartition(')')[2].split()[:2]
            ours = int(parent) == os.getpid()
            ours = ours or mark in (entry / 'environ').read_bytes().split(b'\0')
            command = (entry / 'cmdline').read_bytes().replace(b'\0', b' ').decode()
            if ours and state != 'Z' and not any(name in command for name in LONG_LIVED):
                found[int(entry.name)] = command
    return found


@pytest.fixture(autouse=True, scope='module')
def no_process_left_behind():
    """Fail the file whose tests leave a process running, and end that process."""
    before = _offspring()
    yield
    if 'stable_crl_ros.checking' in sys.modules:  # kept for the next checkpoint, not for ever
        sys.modules['stable_crl_ros.checking'].CHECKER.close()
    end = time.monotonic() + 20.0
    while (left := {p: c for p, c in _offspring().items() if p not in before}):
        if time.monotonic() > end:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            pytest.fail(f'processes left behind: {left}')
        time.sleep(0.05)


@pytest.fixture(scope='module')
def dots(tmp_path_factory):
    """Record a small dataset to train on; returns its path."""
    from learning_samples import write_dots
    path = tmp_path_factory.mktemp('data') / 'dots'
    write_dots(path)
    return path


@pytest.fixture
def short(dots, tmp_path):
    """Give a function that trains briefly on the dots, in `tmp_path / 'run'`."""
    from learning_samples import OVERRIDES
    from stable_crl_ros.crl.train import train
    return partial(train, dataset_paths=[dots], out_dir=tmp_path / 'run', overrides=OVERRIDES,
                   steps=6, threads=1, device='cpu', log_every=2, save_every=2, progress=False)
