"""The memory of one servo: register values as bytes, and what a packet may change in them."""

import struct

from stable_crl_ros.servo_bus.packets import Error
from stable_crl_ros.servo_bus.table import (
    EEPROM_END,
    GOALS,
    LIVE_FROM,
    Mode,
    Model,
    Register,
    TABLE_SIZE,
)

TRIPPED = 0xFF  # of Bus_Watchdog
_LIVE = struct.Struct('<HBBhhiiii')
_LIMITS = {'Goal_PWM': 'PWM_Limit', 'Goal_Current': 'Current_Limit',
           'Goal_Velocity': 'Velocity_Limit'}


class Memory:
    """
    Register values of a servo, by name.

    :param model: what it is.
    :param settings: values of registers that differ from the model's initial ones.
    """

    def __init__(self, model: Model, settings: dict[str, int]) -> None:
        self._model, self._registers = model, model.registers
        self._by_address = {register.address: register for register in self._registers.values()}
        self._bytes = bytearray(TABLE_SIZE)
        self._values: dict[str, int] = {}
        self._live = [name for name, register in self._registers.items()
                      if LIVE_FROM <= register.address < LIVE_FROM + _LIVE.size]
        for register in self._registers.values():
            self[register.name] = register.initial
        for name, value in {'Model_Number': model.number, **settings}.items():
            self[name] = value

    def __iter__(self):
        return iter(self._registers)

    def __contains__(self, name: str) -> bool:
        return name in self._registers

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __setitem__(self, name: str, value: int) -> None:
        register = self._registers[name]
        data = register.encode(value)
        self._bytes[register.address:register.address + register.size] = data
        self._values[name] = register.decode(data)

    def measured(self, *values: int) -> None:
        """Set the nine registers of what is measured, from Realtime_Tick on, all at once."""
        _LIVE.pack_into(self._bytes, LIVE_FROM, *values)
        self._values.update(zip(self._live, values, strict=True))

    def initial(self, name: str) -> int:
        """Return what a register of this model holds at power-on."""
        return self._registers[name].initial

    def forget(self) -> None:
        """Lose what is not kept without power."""
        for register in self._registers.values():
            if EEPROM_END <= register.address < LIVE_FROM:
                self[register.name] = register.initial

    def read(self, address: int, length: int) -> tuple[Error, bytes]:
        """Return bytes of the table; those between registers are 0."""
        if not 0 < length <= TABLE_SIZE - address:
            return Error.ACCESS, b''
        return Error.NONE, bytes(self._bytes[address:address + length])

    def parse(self, address: int, data: bytes, as_shadow: bool) -> tuple[Error, dict[str, int]]:
        """
        Return what a write would change, or why it may not.

        :param as_shadow: whether it came to the Secondary_ID.
        """
        changes: dict[str, int] = {}
        end = address + len(data)
        while address < end:
            register = self._by_address.get(address)
            if register is None:
                return Error.ACCESS, {}
            if address + register.size > end:
                return Error.LENGTH, {}
            value = register.decode(data[:register.size])
            if error := self._refusal(register, value, as_shadow):
                return error, {}
            changes[register.name] = value
            address, data = address + register.size, data[register.size:]
        return Error.NONE, changes

    def _refusal(self, register: Register, value: int, as_shadow: bool) -> Error:
        if not register.writable:
            return Error.ACCESS
        if register.address < EEPROM_END and (self['Torque_Enable'] or as_shadow):
            return Error.ACCESS
        if not register.low <= value <= register.high:
            return Error.RANGE
        if register.name == 'Operating_Mode' and value not in self._model.modes:
            return Error.RANGE
        # By the manual goals are read-only then; that only a 0 is taken here is inferred.
        if self['Bus_Watchdog'] == TRIPPED and (
                register.name in GOALS or register.name == 'Bus_Watchdog' and value):
            return Error.RANGE
        if register.name == 'Torque_Enable' and value and (
                self['Hardware_Error_Status'] & self['Shutdown']):
            return Error.RESULT
        return self._limit_refusal(register.name, value)

    def _limit_refusal(self, name: str, value: int) -> Error:
        if name in _LIMITS and abs(value) > self[_LIMITS[name]]:
            return Error.LIMIT
        if name == 'Goal_Position' and self['Operating_Mode'] == Mode.POSITION and not (
                self['Min_Position_Limit'] <= value <= self['Max_Position_Limit']):
            return Error.LIMIT
        return Error.NONE
