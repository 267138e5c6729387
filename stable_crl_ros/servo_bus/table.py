"""The control table of X-series servos: what is where, what may be written, from the e-manual."""

from dataclasses import dataclass, replace
import enum

EEPROM_END = 64  # addresses below keep their value without power, and are locked under torque
LIVE_FROM = 120  # registers from here on are measured
TABLE_SIZE = 148
TICKS_PER_TURN = 4096
VELOCITY_UNIT = 0.229  # rev/min
ACCELERATION_UNIT = 214.577  # rev/min^2


class Mode(enum.IntEnum):
    """Values of Operating_Mode."""

    CURRENT = 0
    VELOCITY = 1
    POSITION = 3
    EXTENDED_POSITION = 4
    CURRENT_BASED_POSITION = 5
    PWM = 16


REVERSE, TIME_PROFILE, TORQUE_BY_GOAL = 0x01, 0x04, 0x08  # bits of Drive_Mode
VOLTAGE_ERROR, HEAT_ERROR, OVERLOAD_ERROR = 1, 4, 32


@dataclass(frozen=True)
class Register:
    """
    One item of the control table.

    :param name: the manual's, with underscores.
    :param address: of its first byte, low byte first.
    :param size: bytes.
    :param initial: value of a new servo, or after power-on.
    :param low: lowest value that may be written.
    :param high: highest; below `low` the register is read-only.
    """

    name: str
    address: int
    size: int
    initial: int = 0
    low: int = 0
    high: int = -1

    @property
    def writable(self) -> bool:
        """Say whether it is more than readable."""
        return self.high >= self.low

    @property
    def signed(self) -> bool:
        """Say whether the value has a sign."""
        return self.low < 0 or self.name in _SIGNED_READ_ONLY

    def decode(self, data: bytes) -> int:
        """Return the value in these bytes."""
        return int.from_bytes(data, 'little', signed=self.signed)

    def encode(self, value: int) -> bytes:
        """Return the bytes of a value; what does not fit is cut off."""
        return (value & (1 << 8 * self.size) - 1).to_bytes(self.size, 'little')


_SIGNED_READ_ONLY = {'Present_PWM', 'Present_Current', 'Present_Load', 'Present_Velocity',
                     'Present_Position', 'Velocity_Trajectory', 'Position_Trajectory'}
_FAR = 1_048_575  # ticks, 256 turns

_REGISTERS = (
    Register('Model_Number', 0, 2),
    Register('Model_Information', 2, 4),
    Register('Firmware_Version', 6, 1, 45),
    Register('ID', 7, 1, 1, 0, 252),
    Register('Baud_Rate', 8, 1, 1, 0, 7),
    Register('Return_Delay_Time', 9, 1, 250, 0, 254),
    Register('Drive_Mode', 10, 1, 0, 0, 13),
    Register('Operating_Mode', 11, 1, 3, 0, 16),
    Register('Secondary_ID', 12, 1, 255, 0, 255),
    Register('Protocol_Type', 13, 1, 2, 1, 2),
    Register('Homing_Offset', 20, 4, 0, -1_044_479, 1_044_479),
    Register('Moving_Threshold', 24, 4, 10, 0, 1023),
    Register('Temperature_Limit', 31, 1, 80, 0, 100),
    Register('Max_Voltage_Limit', 32, 2, 160, 60, 160),
    Register('Min_Voltage_Limit', 34, 2, 95, 60, 160),
    Register('PWM_Limit', 36, 2, 885, 0, 885),
    Register('Current_Limit', 38, 2, 1193, 0, 1193),
    Register('Velocity_Limit', 44, 4, 200, 0, 1023),
    Register('Max_Position_Limit', 48, 4, 4095, 0, 4095),
    Register('Min_Position_Limit', 52, 4, 0, 0, 4095),
    Register('Startup_Configuration', 60, 1, 0, 0, 3),
    Register('Shutdown', 63, 1, 52, 0, 63),
    Register('Torque_Enable', 64, 1, 0, 0, 1),
    Register('LED', 65, 1, 0, 0, 1),
    Register('Status_Return_Level', 68, 1, 2, 0, 2),
    Register('Registered_Instruction', 69, 1),
    Register('Hardware_Error_Status', 70, 1),
    Register('Velocity_I_Gain', 76, 2, 1920, 0, 16383),
    Register('Velocity_P_Gain', 78, 2, 100, 0, 16383),
    Register('Position_D_Gain', 80, 2, 0, 0, 16383),
    Register('Position_I_Gain', 82, 2, 0, 0, 16383),
    Register('Position_P_Gain', 84, 2, 800, 0, 16383),
    Register('Feedforward_2nd_Gain', 88, 2, 0, 0, 16383),
    Register('Feedforward_1st_Gain', 90, 2, 0, 0, 16383),
    Register('Bus_Watchdog', 98, 1, 0, 0, 127),
    Register('Goal_PWM', 100, 2, 885, -885, 885),
    Register('Goal_Current', 102, 2, 1193, -1193, 1193),
    Register('Goal_Velocity', 104, 4, 0, -1023, 1023),
    Register('Profile_Acceleration', 108, 4, 0, 0, 32767),
    Register('Profile_Velocity', 112, 4, 0, 0, 32767),
    Register('Goal_Position', 116, 4, 0, -_FAR, _FAR),
    Register('Realtime_Tick', 120, 2),
    Register('Moving', 122, 1),
    Register('Moving_Status', 123, 1),
    Register('Present_PWM', 124, 2),
    Register('Present_Current', 126, 2),
    Register('Present_Load', 126, 2),
    Register('Present_Velocity', 128, 4),
    Register('Present_Position', 132, 4),
    Register('Velocity_Trajectory', 136, 4),
    Register('Position_Trajectory', 140, 4),
    Register('Present_Input_Voltage', 144, 2, 120),
    Register('Present_Temperature', 146, 1, 35),
    Register('Backup_Ready', 147, 1),
)
GOALS = ('Goal_PWM', 'Goal_Current', 'Goal_Velocity', 'Goal_Position')


@dataclass(frozen=True)
class Model:
    """
    One kind of servo.

    :param name: the maker's.
    :param number: what Model_Number says.
    :param modes: Operating_Mode values it knows.
    :param speed: without load at 12 V, rad/s.
    :param torque: at standstill and 12 V, N m.
    :param stall_current: at standstill and 12 V, in 2.69 mA.
    :param changes: initial values that differ from the XM430-W350's.
    :param has_current: whether it measures current; else 126 is the load in 0.1 %.
    """

    name: str
    number: int
    modes: tuple[Mode, ...]
    speed: float
    torque: float
    stall_current: int = 0
    changes: tuple[tuple[str, int], ...] = ()
    has_current: bool = True

    @property
    def registers(self) -> dict[str, Register]:
        """Its control table by name."""
        missing = _LOAD if self.has_current else _CURRENT
        changes = dict(self.changes)
        return {register.name: replace(register, initial=changes.get(register.name,
                                                                     register.initial))
                for register in _REGISTERS if register.name not in missing}


_LOAD, _CURRENT = ('Present_Load',), ('Current_Limit', 'Goal_Current', 'Present_Current')
_WITH_CURRENT = tuple(Mode)
_WITHOUT_CURRENT = (Mode.VELOCITY, Mode.POSITION, Mode.EXTENDED_POSITION, Mode.PWM)
_SMALL = (('Temperature_Limit', 72), ('Max_Voltage_Limit', 140), ('Min_Voltage_Limit', 60),
          ('Velocity_Limit', 265), ('Velocity_I_Gain', 1000), ('Position_D_Gain', 4000),
          ('Position_P_Gain', 640))
MODELS = {model.name: model for model in (
    Model('XM430-W350', 1020, _WITH_CURRENT, 4.82, 4.1, 855),
    Model('XM540-W270', 1120, _WITH_CURRENT, 3.14, 10.6, 1636, (('Current_Limit', 2047),)),
    Model('XL430-W250', 1060, _WITHOUT_CURRENT, 6.39, 1.5, changes=_SMALL, has_current=False),
    Model('XC430-W150', 1070, _WITHOUT_CURRENT, 11.1, 1.6, changes=_SMALL, has_current=False),
)}
