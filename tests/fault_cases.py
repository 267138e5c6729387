"""Every fault that the emulated servo bus offers, and what the arm node must make of it."""

from fault_rig import Case, GOES_ON, LATCHES, REFUSES

LOST = ('lost_cycles', 'missed', 'timeouts', 'crc_errors', 'lost', 'retries', 'stale')
PACKETS = (
    Case('one answer dropped', 'drop', GOES_ON, {'count': 1}, count=LOST),
    Case('one answer in fifty dropped', 'drop', GOES_ON, {'probability': 0.02}, count=LOST),
    Case('one answer truncated', 'truncate', GOES_ON, {'count': 1}, count=LOST),
    Case('one answer with a wrong bit', 'corrupt', GOES_ON, {'count': 1}, count=LOST),
    Case('one answer in fifty with a wrong bit', 'corrupt', GOES_ON, {'probability': 0.02},
         count=LOST),
    Case('one answer 5 ms late', 'delay', GOES_ON, {'count': 1, 'seconds': 0.005}),
    Case('noise before ten answers', 'noise', GOES_ON, {'count': 10}),
    Case('one instruction not heard', 'deaf', GOES_ON, {'count': 1}),
    Case('every answer of the elbow dropped', 'drop', LATCHES, {'servo': 4},
         ('elbow (servo 4)', 'does not answer')),
    Case('every answer of the elbow truncated', 'truncate', LATCHES, {'servo': 4},
         ('elbow (servo 4)',)),
    # 'cycles were lost', or 'servos do not answer', whichever is noticed first.
    Case('every answer with a wrong bit', 'corrupt', LATCHES, {}, ('answer', 'waist (servo 1)')),
    Case('every answer 50 ms late', 'delay', LATCHES, {'seconds': 0.05}, ('lost',)),
    Case('the wrist hears nothing', 'deaf', LATCHES, {'servo': 7}, ('wrist_angle (servo 7)',)),
)
SERVOS = (
    Case('the elbow is dead', 'dead', LATCHES, {'servo': 4}, ('elbow (servo 4)',),
         mend=('alive', {'servo': 4})),
    Case('the shoulder restarts in mid-motion', 'reboot', LATCHES, {'servo': 2},
         ('shoulder (servo 2)', 'torque')),
    Case('the shadow of the elbow restarts', 'reboot', LATCHES, {'servo': 5},
         ('elbow_shadow (servo 5)', 'torque')),
    Case('input voltage error of the waist', 'hardware_error', LATCHES, {'servo': 1, 'bits': 1},
         ('waist (servo 1)', '0x01')),
    Case('overheating of the shoulder', 'hardware_error', LATCHES, {'servo': 2, 'bits': 4},
         ('shoulder (servo 2)', '0x04'), asks=True),
    Case('encoder error of the forearm', 'hardware_error', LATCHES, {'servo': 6, 'bits': 8},
         ('forearm_roll (servo 6)', '0x08')),
    Case('electrical shock of the wrist', 'hardware_error', LATCHES, {'servo': 8, 'bits': 16},
         ('wrist_rotate (servo 8)', '0x10')),
    Case('overload of the gripper', 'hardware_error', LATCHES, {'servo': 9, 'bits': 32},
         ('gripper (servo 9)', '0x20')),
    Case('the wrist is jammed', 'jam', GOES_ON, {'servo': 7}),
)
BUS = (
    Case('the cable is pulled out', 'unplug', LATCHES, {}, ('plug the cable in again',),
         mend=('plug', {})),
    Case('the power is switched off', 'power_off', LATCHES, {}, ('servos do not answer',),
         mend=('power_on', {})),
    Case('the power blinks', 'power_cycle', LATCHES, {}, ('torque is off',)),
)
AT_START = (
    Case('an XL430 in place of the waist motor', 'model', REFUSES, {'servo': 1, 'number': 1060},
         ('waist', '1060')),
    Case('an arm with five joints', 'model', REFUSES, {'model': 'wx250'}, ('servo',)),
)
CASES = PACKETS + SERVOS + BUS + AT_START
