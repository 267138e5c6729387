"""Off-screen rendering that any thread may ask for: one hidden thread owns the GL context."""

import atexit
from collections.abc import Callable
import os
import queue
import threading
from typing import Any

import numpy as np
from stable_crl_ros.sim.gl_backend import choose_backend

INSTALL_HINT = ('install one of them: `apt install libegl1 libgl1`, '
                'or `apt install libosmesa6` and set MUJOCO_GL=osmesa')


class WorldError(RuntimeError):
    """The simulated world cannot do what was asked."""


BACKEND = choose_backend()
# Mesa's software rasteriser draws in the thread that asks: with one process per core, its helper
# threads made recording a third slower.
os.environ.setdefault('LP_NUM_THREADS', '0')
try:
    import mujoco
except (ImportError, AttributeError) as error:  # PyOpenGL without its library: AttributeError
    raise WorldError(
        f'MUJOCO_GL={BACKEND} does not work here ({error}); {INSTALL_HINT}') from error


class Camera:
    """
    Pictures of one model through one of its cameras.

    A GL context belongs to the thread that made it, so a hidden thread makes, uses and frees it;
    it starts with the first picture. Close the camera to free the context.

    :param model: the compiled scene.
    :param name: the camera's name in the scene.
    :param size: rows, columns of a picture, pixels.
    """

    def __init__(self, model: 'mujoco.MjModel', name: str, size: tuple[int, int]) -> None:
        self._model = model
        self._name = name
        self._size = size
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._renderer: mujoco.Renderer | None = None
        self._closed = False

    def render(
        self, copy_scene: Callable[['mujoco.Renderer', str], Any],
    ) -> tuple[Any, np.ndarray]:
        """
        Draw one picture.

        :param copy_scene: called in this thread with the renderer and the camera's name; it calls
            `renderer.update_scene`, under whatever lock guards the physics.
        :returns: what `copy_scene` returned; uint8 RGB, shape (rows, columns, 3).
        :raises WorldError: after `close`, or when no GL context can be made.
        """
        with self._lock:
            if self._closed:
                raise WorldError('this camera is closed; make a new world')
            if self._thread is None:
                self._start()
            copied = copy_scene(self._renderer, self._name)
            return copied, self._call(self._renderer.render)

    def close(self) -> None:
        """Free the GL context; closing twice is fine."""
        with self._lock:
            self._closed = True
            if self._thread is not None:
                self._call(self._renderer.close)
                self._jobs.put(None)
                self._thread.join()
                self._thread = self._renderer = None
                atexit.unregister(self.close)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name='mujoco-gl', daemon=True)
        thread.start()
        self._thread = thread  # only now: nobody waits for one that could not be started
        try:
            self._renderer = self._call(
                lambda: mujoco.Renderer(self._model, *self._size, max_geom=200))
        except Exception as error:  # every GL binding fails with exceptions of its own
            self._jobs.put(None)
            self._thread = None
            raise WorldError(
                f'no GL context with MUJOCO_GL={BACKEND} ({error}); {INSTALL_HINT}') from error
        # Registered after EGL's own exit handler, so it runs before EGL is shut down.
        atexit.register(self.close)

    def _call(self, job: Callable[[], Any]) -> Any:
        """Run `job` in the hidden thread and return, or raise, what it gave."""
        answers: queue.SimpleQueue = queue.SimpleQueue()
        self._jobs.put((job, answers))
        result, error = answers.get()
        if error is not None:
            raise error
        return result

    def _work(self) -> None:
        while (request := self._jobs.get()) is not None:
            job, answers = request
            try:
                answers.put((job(), None))
            except Exception as error:  # handed to the thread that asked
                answers.put((None, error))
