"""Requests to an emulated bus: break it, look into its registers, ask what it was told."""

import json
import socket
import threading
import time
from typing import Any

from stable_crl_ros.servo_bus.arms import BusError
from stable_crl_ros.servo_bus.bus import Bus, GoalWrite
from stable_crl_ros.servo_bus.faults import PACKET_FAULTS, PacketFault
from stable_crl_ros.servo_bus.line import Line
from stable_crl_ros.servo_bus.servo import Servo

SERVO_FAULTS = {
    'dead': 'the servo is as if unplugged',
    'alive': 'a dead servo is back, freshly started',
    'reboot': 'the servo restarts by itself',
    'hardware_error': 'the servo latches the error `bits`',
    'model': 'its model number is `number`',
    'voltage': 'it measures `volts`',
    'temperature': 'it measures `celsius`',
    'jam': 'its joint is blocked',
    'free': 'its joint is no longer blocked',
}
BUS_FAULTS = {
    'unplug': 'the adapter is pulled out: the port is gone',
    'plug': 'the adapter is back, at another port',
    'power_off': 'all servos lose power',
    'power_on': 'all servos start',
    'power_cycle': 'all servos lose power for a moment',
}


class BusRequests:
    """
    Answers requests, one JSON object a line.

    :param bus: what is asked about.
    :param line: what is unplugged.
    """

    def __init__(self, bus: Bus, line: Line) -> None:
        self._bus, self._line = bus, line
        self._begun: dict[socket.socket, bytes] = {}

    def serve(self, client: socket.socket) -> bool:
        """Answer what a client has sent; False when it has gone."""
        try:
            data = client.recv(65536)
        except ConnectionError:
            data = b''
        if not data:
            self._begun.pop(client, None)
            return False
        *lines, self._begun[client] = (self._begun.get(client, b'') + data).split(b'\n')
        for line in lines:
            client.sendall(json.dumps(self._answer(line)).encode() + b'\n')
        return True

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            now = time.monotonic()
            self._bus.update(now)
            with self._bus.lock:
                return {'value': getattr(self, f'_{request.pop("do")}')(now=now, **request)}
        except (BusError, KeyError, TypeError, ValueError, AttributeError) as error:
            return {'error': f'{type(error).__name__}: {error}'}

    def _servo(self, number: int) -> Servo:
        for servo in self._bus.servos:
            if servo.spec.servo == number:
                return servo
        numbers = ', '.join(str(servo.spec.servo) for servo in self._bus.servos)
        raise BusError(f'no servo {number} on the bus; there are {numbers}')

    def _inject(self, now: float, kind: str, servo: int | None = None, **values) -> None:
        if kind in PACKET_FAULTS:
            self._bus.faults.add(PacketFault(kind, servo, **values))
        elif kind in BUS_FAULTS:
            self._break_bus(kind, now)
        elif kind in SERVO_FAULTS:
            self._break_servo(kind, self._servo(servo), now, **values)
        else:
            raise BusError(f'no fault {kind!r}; there are '
                           f'{", ".join((*PACKET_FAULTS, *SERVO_FAULTS, *BUS_FAULTS))}')

    def _break_bus(self, kind: str, now: float) -> None:
        if kind == 'unplug':
            self._line.unplug()
        elif kind == 'plug':
            self._line.plug()
        else:
            self._bus.powered = kind != 'power_off'
            if self._bus.powered:
                for servo in self._bus.servos:
                    servo.reboot(now)

    def _break_servo(self, kind: str, servo: Servo, now: float, bits: int = 0, number: int = 0,
                     volts: float = 0.0, celsius: int = 0) -> None:
        match kind:
            case 'dead':
                servo.dead = True
            case 'alive' | 'reboot':
                servo.dead = False
                servo.reboot(now)
            case 'hardware_error':
                servo.raise_error(bits, now)
            case 'model':
                servo.poke('Model_Number', number, now)
            case 'voltage':
                servo.poke('Present_Input_Voltage', round(10 * volts), now)
            case 'temperature':
                servo.poke('Present_Temperature', celsius, now)
            case 'jam' | 'free':
                self._bus.arm.jam(servo.spec.joint, kind == 'jam')

    def _clear(self, now: float) -> None:
        self._bus.faults.clear()

    def _registers(self, now: float, servo: int) -> dict[str, int]:
        chosen = self._servo(servo)
        chosen.measure(now)
        return {name: chosen[name] for name in chosen.memory}

    def _poke(self, now: float, servo: int, name: str, value: int) -> None:
        self._servo(servo).poke(name, value, now)

    def _joints(self, now: float) -> dict[str, float]:
        return {joint: feel.angle for joint, feel in self._bus.arm.feel(now).items()}

    def _goals(self, now: float, since: float) -> list[GoalWrite]:
        return [goal for goal in self._bus.goals if goal.time >= since]

    def _counts(self, now: float) -> dict[str, int]:
        done = {f'fault_{kind}': count for kind, count in self._bus.faults.done.items() if count}
        return {**self._bus.counts, **done}

    def _port(self, now: float) -> str:
        return self._line.port


class BusHandle:
    """
    What can be done to an emulated bus from outside; it may be another process.

    :param connection: to its `BusRequests`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile('rb')
        self._one = threading.Lock()

    def request(self, do: str, **values) -> Any:
        """
        Send one request and return its answer.

        :raises BusError: when it is refused, or the bus has ended.
        """
        try:
            with self._one:
                self._connection.sendall(json.dumps({'do': do, **values}).encode() + b'\n')
                line = self._lines.readline()
        except OSError as error:
            raise BusError(f'the emulated bus does not answer: {error}') from error
        if not line:
            raise BusError('the emulated bus has ended')
        answer = json.loads(line)
        if 'error' in answer:
            raise BusError(answer['error'])
        return answer['value']

    @property
    def port(self) -> str:
        """Path of the pseudo-terminal; another one after it was unplugged and plugged in."""
        return self.request('port')

    def inject(self, kind: str, servo: int | None = None, **values) -> None:
        """
        Let something go wrong.

        :param kind: of `PACKET_FAULTS` (with `count`, `probability`, `seconds`), `SERVO_FAULTS`
            (with the value it names) or `BUS_FAULTS`.
        :param servo: id; of a packet fault, None for any.
        :raises BusError: for what there is not.
        """
        self.request('inject', kind=kind, servo=servo, **values)

    def clear(self) -> None:
        """End all packet faults."""
        self.request('clear')

    def servo(self, number: int) -> dict[str, int]:
        """Return all registers of a servo, by name, as they are now."""
        return self.request('registers', servo=number)

    def poke(self, servo: int, name: str, value: int) -> None:
        """Set a register as no packet may: locked and read-only ones too."""
        self.request('poke', servo=servo, name=name, value=value)

    def joints(self) -> dict[str, float]:
        """Return where the joints really are: name -> rad, the gripper's horn too."""
        return self.request('joints')

    def goals(self, since: float = 0.0) -> list[GoalWrite]:
        """Return the goals that servos took since a monotonic time (s), oldest first."""
        return [GoalWrite(*goal) for goal in self.request('goals', since=since)]

    def counts(self) -> dict[str, int]:
        """Return how many instructions came, by kind, and how many faults were done."""
        return self.request('counts')

    def disconnect(self) -> None:
        """Send no more requests."""
        self._lines.close()
        self._connection.close()
