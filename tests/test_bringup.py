"""The node graphs: what an argument may be, what it does, and that all they name exists."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from stable_crl_ros.bringup import BringupError, GRAPHS, parse_arguments, SIM_TASKS
from stable_crl_ros.graph import check_namespace, share
from stable_crl_ros.images import write_image
from stable_crl_ros.sim.tasks import TASKS
import yaml


@pytest.fixture
def goals(tmp_path):
    """Give a goal directory with one goal, drawer_open."""
    folder = tmp_path / 'goals'
    folder.mkdir()
    image = np.full((48, 64, 3), 90, np.uint8)
    image[:, 32:] = 30
    write_image(folder / 'drawer_open.png', image)
    return folder


def specs(graph, **values):
    return {spec.executable: spec for spec in GRAPHS[graph].specs(values)}


def policy_specs(goals, **values):
    return specs('policy', goal='drawer_open.png', goal_directory=str(goals), **values)


def test_simulator_plays_arm_and_camera_in_one_process(goals):
    graph = policy_specs(goals, robot='sim', seed='7', sim_task='close_drawer')
    assert list(graph) == ['sim', 'goal', 'policy', 'lifecycle_manager']
    assert graph['sim'].parameters['sim'] == {'task': 'close_drawer', 'seed': 7}
    assert graph['sim'].parameters['arm']['driver'] == 'sim'


def test_other_robots_get_an_arm_and_a_camera_process(goals):
    graph = policy_specs(goals, robot='mock', camera_source='frames')
    assert list(graph) == ['arm', 'camera', 'goal', 'policy', 'lifecycle_manager']
    assert graph['arm'].parameters['arm']['driver'] == 'mock'
    assert graph['camera'].parameters['camera'] == {'source': 'frames'}


def test_the_picture_of_it_all_is_drawn_by_a_process_of_its_own_when_asked_for(goals):
    graph = policy_specs(goals, debug_image='true')
    assert list(graph) == ['sim', 'goal', 'policy', 'monitor', 'lifecycle_manager']
    assert graph['monitor'].respawn


def test_one_control_rate_reaches_all_who_need_it(goals):
    graph = policy_specs(goals, control_rate='4', record='true', debug_image='true') | specs(
        'collect', control_rate='4')
    rates = {node: values['control_rate'] for spec in graph.values()
             for node, values in spec.parameters.items() if 'control_rate' in values}
    assert rates == dict.fromkeys(
        ['arm', 'policy', 'monitor', 'episode_logger', 'teleop'], 4.0)


def test_an_emulated_robot_is_a_simulator_behind_a_bus_which_a_real_arm_node_drives():
    graph = specs('collect', robot='emulated', seed='7', teleop='none')
    assert list(graph) == ['servo_sim', 'arm', 'goal', 'episode_logger', 'lifecycle_manager']
    port = graph['arm'].parameters['arm']['port']
    assert graph['arm'].parameters['arm']['driver'] == 'dynamixel'
    assert graph['servo_sim'].parameters['sim'] == {'task': 'open_drawer', 'seed': 7, 'link': port}
    assert graph['lifecycle_manager'].parameters['lifecycle_manager']['awaited_path'] == port
    assert graph['episode_logger'].parameters['episode_logger']['source'] == 'simulation'


def test_a_task_that_the_simulator_lacks_is_refused_before_anything_starts():
    assert tuple(TASKS) == SIM_TASKS
    with pytest.raises(BringupError, match='sim_task.*foo.*open_drawer, close_drawer'):
        GRAPHS['hardware'].complete({'sim_task': 'foo'})


def test_a_real_bus_is_found_by_itself_or_named():
    for port in ('', '/dev/ttyUSB3', 'emulated'):
        assert specs('hardware', robot='dynamixel',
                     port=port)['arm'].parameters['arm']['port'] == port
    with pytest.raises(BringupError, match='port:=/dev/ttyUSB3 is for robot:=dynamixel'):
        specs('hardware', robot='mock', port='/dev/ttyUSB3')


@pytest.mark.parametrize(('device', 'terminal'), [
    ('auto', 'needed'), ('keyboard', 'needed'), ('gamepad', 'welcome'),
    ('spacemouse', 'welcome'), ('joy', 'welcome')])
def test_every_device_can_steer_a_collection_and_take_over_from_a_policy(goals, device, terminal):
    for graph in (specs('collect', teleop=device), policy_specs(goals, teleop=device)):
        assert graph['teleop'].parameters['teleop']['device'] == device
        assert graph['teleop'].terminal == terminal


def test_collecting_is_steered_by_whatever_is_there_and_a_policy_by_nobody_else(goals):
    assert specs('collect')['teleop'].parameters['teleop']['device'] == 'auto'
    assert 'teleop' not in policy_specs(goals)
    assert 'teleop' not in specs('collect', teleop='none')


@pytest.mark.parametrize(('robot', 'autostart', 'acts'), [
    ('sim', 'auto', True), ('mock', 'auto', True), ('emulated', 'auto', True),
    ('dynamixel', 'auto', False), ('xs_sdk', 'auto', False), ('joint_trajectory', 'auto', False),
    ('sim', 'false', False), ('dynamixel', 'true', True)])
def test_real_robots_never_act_by_themselves_unless_told(robot, autostart, acts):
    manager = specs('hardware', robot=robot, autostart=autostart)['lifecycle_manager']
    values = manager.parameters['lifecycle_manager']
    assert (values['managed_nodes'], values['autostart']) == (['arm'], acts)


def test_recording_is_added_on_request(goals, tmp_path):
    assert 'episode_logger' not in policy_specs(goals)
    logger = policy_specs(goals, record='True', dataset_path=str(tmp_path / 'd'), task='t')
    assert logger['episode_logger'].parameters['episode_logger'] == {
        'dataset_path': str(tmp_path / 'd'), 'task': 't', 'operator': '', 'notes': '',
        'image_codec': '', 'source': 'simulation', 'cameras': ['over_shoulder'],
        'image_topics': ['image_raw'], 'control_rate': 5.0, 'max_steps': 0, 'max_duration': 0.0,
        'record_on_start': True}


@pytest.mark.parametrize('robot', ['mock', 'sim'])
def test_further_cameras_get_namespaces_of_their_own_and_the_logger_knows_them(robot):
    specs_ = GRAPHS['collect'].specs({'robot': robot, 'cameras': 'front,wrist=/dev/video2,side=3'})
    cameras = {spec.namespace: spec for spec in specs_ if spec.executable == 'camera'}
    assert cameras['wrist'].parameters['camera'] == {
        'source': '/dev/video2', 'frame_id': 'wrist_optical_frame'}
    assert cameras['side'].namespace_in('widowx') == '/widowx/side'
    assert ('' in cameras) == (robot == 'mock')
    assert len({spec.name for spec in specs_}) == len(specs_)
    logger = next(spec for spec in specs_ if spec.executable == 'episode_logger')
    values = logger.parameters['episode_logger']
    assert values['cameras'] == ['front', 'wrist', 'side']
    assert values['image_topics'] == ['image_raw', 'wrist/image_raw', 'side/image_raw']


@pytest.mark.parametrize(('cameras', 'reason'), [
    ('front,wrist', 'NAME=SOURCE'), ('front,wrist=', 'NAME=SOURCE'), ('a,a=1', 'name of its own'),
    ('front=1', 'name of its own'), ('joint_states', 'none of joint_states'), ('', 'letters')])
def test_cameras_without_a_name_or_a_source_are_refused(cameras, reason):
    with pytest.raises(BringupError, match=reason):
        specs('collect', cameras=cameras)


def test_only_camera_and_logger_are_started_again_and_only_teleop_gets_the_keyboard(goals):
    every = [spec for graph in (policy_specs(goals, robot='mock', record='true'),
                                specs('collect', robot='mock'), specs('hardware'))
             for spec in graph.values()]
    assert {s.executable for s in every if s.respawn} == {'camera', 'episode_logger'}
    assert {s.executable for s in every if s.terminal} == {'teleop'}
    assert {s.executable for s in every if s.once} == {'lifecycle_manager'}


def test_everything_a_graph_names_exists(goals):
    shipped = {path.stem for path in share('config').glob('*.yaml')}
    every = [spec for graph in (policy_specs(goals, robot='mock', record='true'),
                                policy_specs(goals), specs('collect'), specs('hardware'))
             for spec in graph.values()]
    nodes = {node for spec in every for node in spec.parameters}
    for spec in every:
        assert importlib.util.find_spec(f'stable_crl_ros.nodes.{spec.executable}')
    assert shipped <= nodes, f'no graph uses {shipped - nodes}'


@pytest.mark.parametrize('path', sorted(share('config').glob('*.yaml')), ids=lambda p: p.name)
def test_configuration_is_valid_in_every_namespace(path):
    assert list(yaml.safe_load(path.read_text())) == [f'/**/{path.stem}']


def test_overrides_are_a_parameter_file_for_any_namespace(goals):
    overrides = policy_specs(goals)['sim'].overrides()
    assert overrides['/**/arm']['ros__parameters']['driver'] == 'sim'
    assert overrides['/**/sim']['ros__parameters'] == {'task': 'open_drawer', 'seed': 0}


def test_missing_goal_is_refused_with_those_that_exist(goals):
    for values in ({}, {'goal': 'drawer_opn.png'}):
        with pytest.raises(BringupError, match='drawer_open'):
            specs('policy', goal_directory=str(goals), **values)


def test_unreadable_goal_is_refused(goals):
    (goals / 'broken.png').write_bytes(b'no picture')
    with pytest.raises(BringupError, match='broken.png'):
        specs('policy', goal='broken', goal_directory=str(goals))


@pytest.mark.parametrize('text', ['[drawer_open.png, drawer_closed.png]',
                                  'drawer_open,drawer_closed'])
def test_several_goals_are_found_and_handed_over_in_order(goals, text):
    values = specs('policy', goals=text, goals_loop='true', goal_timeout='20', on_timeout='stop',
                   goal_directory=str(goals))['goal'].parameters['goal']
    assert [Path(path).name for path in values['goals']] == ['drawer_open.png',
                                                             'drawer_closed.png']
    assert values['goals'][0] == str(goals / 'drawer_open.png')
    assert values['goals_loop'] is True and 'active_goal' not in values
    assert (values['goal_timeout'], values['on_timeout']) == (20.0, 'stop')


@pytest.mark.parametrize(('arguments', 'reason'), [
    ({'goals': '[drawer_open, drawer_opn]'}, "'drawer_opn' not found; .*drawer_closed"),
    ({'goals': '[drawer_open]', 'goal': 'drawer_open'}, 'give one of them'),
    ({'goal': 'drawer_open', 'goal_timeout': '20'}, 'goal_timeout:= needs several'),
    ({'goals': '[drawer_open]', 'goal_timeout': '-1'}, 'goal_timeout:=-1 must be 0 or more'),
    ({'goals': '[drawer_open]', 'on_timeout': 'wait'}, 'choose one of next, stop'),
    ({'goals': '[]'}, 'which goal'), ({'goal': 'drawer_open', 'goals_loop': 'true'}, 'needs sev'),
    ({'goals': 'drawer_open,drawer_open'}, 'follows itself'),
    ({'goals': 'drawer_open,drawer_closed,drawer_open', 'goals_loop': 'true'}, 'follows itself')])
def test_several_goals_are_all_checked_before_anything_starts(goals, arguments, reason):
    with pytest.raises(BringupError, match=reason):
        specs('policy', goal_directory=str(goals), **arguments)


def test_the_goal_node_knows_the_camera_and_a_goal_of_another_one_is_refused(goals):
    for graph in ('policy', 'collect'):
        values = {'goal': 'drawer_open'} if graph == 'policy' else {}
        made = specs(graph, goal_directory=str(goals), cameras='front', **values)
        assert made['goal'].parameters['goal']['camera'] == 'front'
    with pytest.raises(BringupError, match="drawer_closed.*'over_shoulder'.*'front'"):
        specs('policy', goal_directory=str(goals), cameras='front', goal='drawer_closed')


def test_missing_checkpoint_is_refused(goals):
    with pytest.raises(BringupError, match='no_such.safetensors'):
        policy_specs(goals, checkpoint='no_such.safetensors')


@pytest.mark.parametrize('name', ['goal_directory', 'dataset_path'])
def test_a_folder_of_nobody_is_refused(name):
    with pytest.raises(BringupError, match=f'{name}.*no such user'):
        specs('collect', **{name: '~nobody_here/x'})


def test_unknown_argument_is_refused_with_the_known_ones():
    with pytest.raises(BringupError, match='goa.*goal, goals, goals_loop, goal_timeout, on_'):
        parse_arguments(GRAPHS['policy'], ['goa:=x'])


@pytest.mark.parametrize(('words', 'message'), [
    (['goal'], 'name:=value'), (['goal=x'], 'name:=value'),
    (['goal:=a', 'goal:=b'], 'twice'),
    (['robot:=pr2'], 'sim, mock, emulated, dynamixel, xs_sdk, joint_trajectory'),
    (['control_rate:=fast'], 'finite number'), (['control_rate:=inf'], 'finite number'),
    (['seed:=1.5'], 'whole number'), (['namespace:=a b'], 'namespace'),
    (['namespace:=1st'], 'namespace')])
def test_wrong_argument_is_refused(words, message):
    with pytest.raises(BringupError, match=message):
        parse_arguments(GRAPHS['policy'], words)


@pytest.mark.parametrize('robot', ['sim', 'emulated'])
def test_simulator_refuses_another_camera(robot):
    with pytest.raises(BringupError, match='camera_source'):
        specs('hardware', robot=robot, camera_source='/dev/video0')


def test_argument_values_may_hold_the_separator():
    assert parse_arguments(GRAPHS['policy'], ['notes:=a:=b']) == {'notes': 'a:=b'}


def test_namespace_loses_its_slashes():
    assert [check_namespace(n) for n in ('/widowx', 'left/arm/', '')] == [
        'widowx', 'left/arm', '']


@pytest.mark.parametrize('graph', GRAPHS.values(), ids=lambda graph: graph.name)
def test_help_names_every_argument_with_its_default(graph):
    text = graph.help()
    for argument in graph.arguments:
        assert f'{argument.name}:={argument.default}' in text
        assert argument.description in text


def test_files_are_found_where_the_package_is_installed(tmp_path):
    """A copy under lib/ finds share/ beside it, as pip and colcon lay them out."""
    import subprocess
    import sys
    site = tmp_path / 'lib' / 'python3' / 'site-packages' / 'stable_crl_ros'
    site.mkdir(parents=True)
    for name in ('__init__.py', 'graph.py'):
        (site / name).write_text((Path(__file__).parents[1] / 'stable_crl_ros' / name).read_text())
    (tmp_path / 'share' / 'stable_crl_ros' / 'config').mkdir(parents=True)
    program = 'from stable_crl_ros.graph import share; print(share("config"))'
    done = subprocess.run([sys.executable, '-c', program], cwd=site.parent, text=True,
                          capture_output=True, check=True)
    assert done.stdout.strip() == str(tmp_path / 'share' / 'stable_crl_ros' / 'config')
