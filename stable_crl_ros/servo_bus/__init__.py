"""An emulated servo bus: Dynamixel X-series servos on a pseudo-terminal, for tests and trials."""

from stable_crl_ros.servo_bus.arms import BusError, ServoArm
from stable_crl_ros.servo_bus.process import BusProcess, EmulatedBus, start

__all__ = ['BusError', 'BusProcess', 'EmulatedBus', 'ServoArm', 'start']
