"""The package as others meet it: versions, executables, installed files, launch files."""

import ast
from distutils.core import run_setup
import importlib.util
import os
from pathlib import Path
import re
import shutil
import stat
import subprocess
import sys
from xml.etree import ElementTree
import zipfile

import pytest
import stable_crl_ros
from stable_crl_ros.bringup import GRAPHS
from stable_crl_ros.graph import share

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ('stable_crl_ros', 'config', 'launch', 'scripts', 'resource', 'setup.py', 'setup.cfg',
           'package.xml', 'pyproject.toml', 'LICENSE')
SCRIPTS = sorted((ROOT / 'scripts').iterdir())
MEBIBYTE = 1 << 20


@pytest.fixture(scope='module')
def distribution():
    """Read setup.py as setuptools does."""
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        return run_setup('setup.py', stop_after='init')
    finally:
        os.chdir(before)


@pytest.fixture(scope='module')
def manifest():
    """Read package.xml."""
    return ElementTree.parse(ROOT / 'package.xml').getroot()


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the sources."""
    folder = tmp_path_factory.mktemp('wheel')
    for name in SOURCES:
        source, target = ROOT / name, folder / 'source' / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy2(source, target)
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps',
                    '--no-build-isolation', '-w', folder, folder / 'source'], check=True)
    return zipfile.ZipFile(next(folder.glob('*.whl')))


def test_one_version_everywhere(distribution, manifest):
    assert distribution.get_version() == stable_crl_ros.__version__
    assert manifest.findtext('version') == stable_crl_ros.__version__


def test_colcon_takes_it_for_an_ament_python_package(manifest):
    assert manifest.findtext('export/build_type') == 'ament_python'
    # colcon falls back to plain Python, without a word, when the address looks wrong to it.
    address = manifest.find('maintainer').get('email')
    assert re.fullmatch(r'[-\w%+]+(\.[-\w%+]+)*@[-\w%]+(\.[-\w%]+)*\.[a-zA-Z]{2,}', address)
    assert (ROOT / 'resource' / manifest.findtext('name')).is_file()


def test_ros_is_never_installed_over_the_one_that_is_there(distribution):
    names = {re.split(r'[^\w-]', requirement)[0] for requirement in distribution.install_requires}
    assert not {name for name in names if name.startswith('ros')}
    assert not names & {'rclpy', 'launch', 'launch_ros', 'cv_bridge', 'sensor_msgs'}


def test_where_ros_comes_by_pip_every_message_that_is_imported_comes_too(distribution):
    extra = {requirement.partition('==')[0].partition('[')[0]
             for requirement in distribution.extras_require['ros']}
    imported = {node.module.split('.')[0] for path in (ROOT / 'stable_crl_ros').rglob('*.py')
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.ImportFrom) and node.module}
    messages = {name for name in imported if name.endswith('_msgs') or name == 'std_srvs'}
    with_rclpy = {'builtin_interfaces', 'lifecycle_msgs', 'rcl_interfaces'}
    assert {f'ros-{name.replace("_", "-")}' for name in messages - with_rclpy} <= extra


def test_every_executable_runs_a_node_with_the_activated_environment_s_python(distribution):
    # colcon would begin an entry point with its own Python, the system's, which has no torch.
    assert distribution.entry_points['console_scripts'] == ['stable-crl = stable_crl_ros.cli:main']
    for script in SCRIPTS:
        first, *rest = script.read_text().splitlines()
        assert first == '#!/usr/bin/env python3'
        assert f'from stable_crl_ros.nodes.{script.name} import main' in rest
        source = importlib.util.find_spec(f'stable_crl_ros.nodes.{script.name}').origin
        functions = [node.name for node in ast.parse(Path(source).read_text()).body
                     if isinstance(node, ast.FunctionDef)]
        assert 'main' in functions
        assert os.access(script, os.X_OK)


def test_every_process_of_a_graph_is_an_executable():
    executables = {script.name for script in SCRIPTS}
    specs = [spec for values in ({'robot': 'sim'}, {'robot': 'mock'}, {'robot': 'emulated'})
             for graph in ('collect', 'hardware') for spec in GRAPHS[graph].specs(values)]
    assert {spec.executable for spec in specs} | {'goal', 'policy'} <= executables


def test_wheel_carries_configuration_launch_files_and_assets(wheel):
    names = wheel.namelist()
    shared = {name.partition('/data/share/stable_crl_ros/')[2] for name in names}
    assert {'package.xml', 'config/fastdds.xml', 'config/arm.yaml'} <= shared
    assert {f'launch/{name}.launch.py' for name in GRAPHS} <= shared
    assert 'stable_crl_ros/sim/assets/widowx.xml' in names
    scripts = [item for item in wheel.infolist() if '/data/lib/stable_crl_ros/' in item.filename]
    assert len(scripts) == len(SCRIPTS)
    assert all(item.external_attr >> 16 & stat.S_IXUSR for item in scripts)
    assert not [name for name in names if name.startswith(('tests/', 'data_collection/'))]


def test_wheel_carries_every_asset_of_the_sources(wheel):
    assets = [path for path in (ROOT / 'stable_crl_ros').rglob('assets/**/*') if path.is_file()]
    missing = {str(path.relative_to(ROOT)) for path in assets} - set(wheel.namelist())
    assert missing == set()


@pytest.mark.parametrize('name', GRAPHS)
def test_launch_file_describes_the_graph_of_its_name(name):
    tree = ast.parse((share('launch') / f'{name}.launch.py').read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [(call.func.id, call.args[0].value) for call in calls] == [('describe', name)]
    assert any(isinstance(node, ast.FunctionDef) and node.name == 'generate_launch_description'
               for node in tree.body)


def test_every_graph_has_a_launch_file_and_every_launch_file_a_graph():
    names = {path.name.removesuffix('.launch.py') for path in share('launch').glob('*.launch.py')}
    assert names == set(GRAPHS)


@pytest.mark.parametrize('name', GRAPHS)
def test_ros2_launch_shows_the_graph_s_arguments(name):
    launch = pytest.importorskip('launch', reason='needs ROS 2 from apt', exc_type=ImportError)
    pytest.importorskip('launch_ros', reason='needs ROS 2 from apt')
    path = share('launch') / f'{name}.launch.py'
    source = launch.launch_description_sources.PythonLaunchDescriptionSource(str(path))
    description = source.get_launch_description(launch.LaunchContext())
    shown = {argument.name: argument.description for argument in
             description.get_launch_arguments()}
    assert shown == {a.name: a.description for a in GRAPHS[name].arguments}


def test_all_ros_wheels_are_pinned_to_one_version():
    lines = (ROOT / 'requirements-ros.txt').read_text().splitlines()
    wheels = [line for line in lines if line.startswith('ros-')]
    assert len(wheels) > 60
    assert [line for line in wheels if not re.fullmatch(r'[\w-]+(\[\w+\])?==[\d.]+', line)] == []
    assert 'ros-rclpy[fastrtps]==7.1.6' in wheels


def test_dds_segment_holds_several_raw_camera_images():
    profile = ElementTree.parse(share('config') / 'fastdds.xml')
    sizes = [int(node.text) for node in profile.iter() if node.tag.endswith('}segment_size')]
    assert sizes == [16 * MEBIBYTE]


def test_licence_is_the_one_declared(manifest, distribution):
    assert manifest.findtext('license') == distribution.get_license() == 'MIT'
    assert (ROOT / 'LICENSE').read_text().startswith('MIT License')
