"""Which of MuJoCo's off-screen backends to draw with."""

import ctypes.util
import os


def choose_backend() -> str:
    """
    Set MUJOCO_GL, unless the user did, to the off-screen backend whose libraries are installed.

    Has to run before mujoco is imported. Without any library physics still runs ('disabled').
    """
    if not os.environ.get('MUJOCO_GL'):
        found = ctypes.util.find_library
        if found('EGL') and found('GL'):
            os.environ['MUJOCO_GL'] = 'egl'
        else:
            os.environ['MUJOCO_GL'] = 'osmesa' if found('OSMesa') else 'disabled'
    return os.environ['MUJOCO_GL']
