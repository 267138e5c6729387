#!/usr/bin/env python3
"""Make sure that OpenCV loads and that MuJoCo can render without a screen."""

import os
import shutil
import subprocess
import sys

PACKAGES = ('libegl1', 'libgl1', 'libglib2.0-0')
# With the backend that the package will draw with, not with any that works.
RENDER = """from stable_crl_ros.sim.gl_backend import choose_backend
choose_backend()
import mujoco
context = mujoco.GLContext(64, 64)
context.make_current()
context.free()"""


def works(code: str, limit_s: float = 120.0) -> bool:
    """Tell whether a fresh Python runs this code."""
    try:
        return subprocess.run([sys.executable, '-c', code], capture_output=True,
                              timeout=limit_s).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def complete() -> bool:
    """Tell whether all that only the system can provide is there."""
    return works('import cv2') and works(RENDER)


def administrator() -> list[str] | None:
    """Return what to put before a command to run it as root, or None where that is not ours."""
    if os.geteuid() == 0:
        return []
    if shutil.which('sudo') and subprocess.run(
            ['sudo', '-n', 'true'], capture_output=True).returncode == 0:
        return ['sudo', '-n']
    return None


def install() -> None:
    """Install the missing libraries when this user may; errors show in the second check."""
    root = administrator()
    if root is None or not shutil.which('apt-get'):
        return
    print(f'installing {" ".join(PACKAGES)} for headless rendering')
    for command in (['update', '-qq'], ['install', '-y', '-qq', *PACKAGES]):
        subprocess.run([*root, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', *command],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def main() -> int:
    """Check, install if needed and allowed, check again."""
    if complete():
        return 0
    install()
    if complete():
        return 0
    print('make: OpenCV or headless OpenGL does not work here. Run\n\n'
          f'    sudo apt-get install {" ".join(PACKAGES)}\n\n'
          'and try again (where EGL cannot work: libosmesa6, with MUJOCO_GL=osmesa).',
          file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main())
