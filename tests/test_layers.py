"""The borders between the parts: who may import what."""

import ast
from pathlib import Path
import subprocess
import sys

PACKAGE = Path(__file__).resolve().parents[1] / 'stable_crl_ros'
MODULES = sorted(PACKAGE.rglob('*.py'))
ROS = {'rclpy', 'rcl_interfaces', 'lifecycle_msgs', 'sensor_msgs', 'std_msgs', 'std_srvs',
       'geometry_msgs', 'diagnostic_msgs', 'builtin_interfaces', 'cv_bridge', 'launch_ros',
       'ament_index_python', 'trajectory_msgs'}
ONLY_WITH_LAUNCH = 'launch_description.py'


def imported(path):
    """Return the dotted names a module imports, anywhere in its text."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            names |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return names


def violations(paths, *forbidden):
    """Return {file: forbidden names it imports}."""
    assert paths
    found = {}
    for path in paths:
        names = sorted(name for name in imported(path) for border in forbidden
                       if name == border or name.startswith(f'{border}.'))
        if names:
            found[str(path.relative_to(PACKAGE))] = names
    return found


def part(*names):
    return [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in names]


def ours(*parts):
    return [f'stable_crl_ros.{name}' for name in parts]


def test_only_nodes_import_ros():
    others = [path for path in MODULES
              if path not in part('nodes') and path.name != ONLY_WITH_LAUNCH]
    assert violations(others, *ROS) == {}


def test_data_exchange_robot_and_teleop_never_import_torch():
    torch = ['torch', *ours('crl', 'policy', 'checkpoint')]
    assert violations(part('data', 'exchange', 'robot', 'teleop'), *torch) == {}


def test_crl_never_imports_robot_or_sim():
    assert violations(part('crl'), *ours('robot', 'sim')) == {}


def test_libraries_never_import_nodes_or_bringup():
    above = ours('nodes', 'bringup', 'graph', 'launcher', 'cli')
    assert violations(part('robot', 'data', 'exchange', 'crl', 'sim', 'teleop'), *above) == {}


def test_data_builds_on_no_other_format():
    assert violations(part('data'), *ours('exchange')) == {}


def test_nothing_but_the_command_line_builds_on_the_experiments():
    others = [path for path in MODULES
              if path not in part('experiments') and not path.name.startswith('cli')]
    assert violations(others, *ours('experiments')) == {}


def test_learning_never_imports_what_scores_it():
    assert violations(part('crl'), *ours('evaluation', 'closed_loop', 'open_loop')) == {}


def test_at_most_two_levels_of_nesting():
    assert [path for path in MODULES if len(path.relative_to(PACKAGE).parts) > 2] == []


def test_every_file_opens_with_what_it_is():
    silent = [path for path in MODULES if path.read_text().strip()
              and not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_no_file_grows_long():
    assert [path for path in MODULES if len(path.read_text().splitlines()) > 350] == []


def test_command_line_starts_without_the_heavy_libraries():
    heavy = ['torch', 'rclpy', 'mujoco', 'zarr', 'gymnasium', 'pyarrow', 'rosbags', 'google']
    program = ('import sys; from stable_crl_ros.cli import make_parser; make_parser(); '
               f'print([name for name in {heavy} if name in sys.modules])')
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                          check=True)
    assert done.stdout.strip() == '[]'
