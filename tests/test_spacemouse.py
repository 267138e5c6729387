"""SpaceMouse: real reports, one by one through a socket, decoded as each model sends them."""

import socket
import struct

import numpy as np
import pytest
from stable_crl_ros.teleop.device import DeviceError, EVENTS
from stable_crl_ros.teleop.spacemouse import (
    CLICKS,
    is_spacemouse,
    open_spacemouse,
    PRO_EVENTS,
    SpaceMouse,
)

NAVIGATOR, WIRELESS, PRO_WIRELESS = 0xc626, 0xc62e, 0xc632
LEFT, RIGHT = 1, 2


class Cable:
    """The device's end of a socket that keeps reports apart, read as hidapi's device is."""

    def __init__(self):
        self._device, self._host = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._host.setblocking(False)

    def send(self, report):
        self._device.send(report)

    def read(self, max_length):
        try:
            report = self._host.recv(max_length)
        except BlockingIOError:
            return []
        if not report:
            raise OSError('read error')  # as hidapi says it
        return list(report)

    def unplug(self):
        self._device.close()

    def close(self):
        self._device.close()
        self._host.close()


@pytest.fixture
def mouse():
    """Give a function that plugs a SpaceMouse in: (cable, device)."""
    cables = []

    def plug(product=NAVIGATOR):
        cables.append(Cable())
        return cables[-1], SpaceMouse(cables[-1], product)
    yield plug
    for cable in cables:
        cable.close()


def motion(*counts):
    """Return report 1 with all six axes, or with the first three."""
    return bytes([1]) + struct.pack(f'<{len(counts)}h', *counts)


def turning(*counts):
    return bytes([2]) + struct.pack('<3h', *counts)


def buttons(bits, size=2):
    return bytes([3]) + bits.to_bytes(size, 'little')


# Pushing away from the user reports y < 0, to the left x < 0, lifting z < 0 (HID usage tables,
# 4.2); tilting away is rx < 0, tilting to the left ry < 0, twisting to the left rz < 0.
@pytest.mark.parametrize(('counts', 'axes'), [
    ((0, -350, 0, 0, 0, 0), [1, 0, 0, 0, 0, 0]), ((-350, 0, 0, 0, 0, 0), [0, 1, 0, 0, 0, 0]),
    ((0, 0, -350, 0, 0, 0), [0, 0, 1, 0, 0, 0]), ((0, 0, 0, 0, 350, 0), [0, 0, 0, -1, 0, 0]),
    ((0, 0, 0, -350, 0, 0), [0, 0, 0, 0, 1, 0]), ((0, 0, 0, 0, 0, -175), [0, 0, 0, 0, 0, 0.5])])
def test_both_forms_of_report_mean_the_same(mouse, counts, axes):
    old, old_mouse = mouse(NAVIGATOR)
    old.send(motion(*counts[:3]))
    old.send(turning(*counts[3:]))
    new, new_mouse = mouse(WIRELESS)
    new.send(motion(*counts))
    for device in (old_mouse, new_mouse):
        np.testing.assert_allclose(device.poll(0.0).axes, axes, atol=1e-9)


def test_recorded_bytes_of_a_navigator_pushed_forward():
    cable = Cable()
    device = SpaceMouse(cable, NAVIGATOR)
    cable.send(bytes([1, 0x00, 0x00, 0xa2, 0xfe, 0x00, 0x00]))  # y = 0xfea2 = -350
    cable.send(bytes([2, 0, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(device.poll(0.0).axes, [1, 0, 0, 0, 0, 0])
    cable.close()


def test_beyond_the_usual_end_an_axis_is_full():
    cable = Cable()
    cable.send(motion(0, -500, 0))
    assert SpaceMouse(cable, NAVIGATOR).poll(0.0).axes[0] == 1.0
    cable.close()


def test_the_left_button_is_the_deadman_and_the_right_one_then_the_gripper(mouse):
    cable, device = mouse()
    assert not device.poll(0.0).deadman
    cable.send(buttons(LEFT))
    assert device.poll(0.1).deadman
    cable.send(buttons(LEFT | RIGHT))
    cable.send(buttons(LEFT))
    given = device.poll(0.2)
    assert given.deadman and given.events == ('gripper',)
    cable.send(buttons(0))
    assert not device.poll(0.3).deadman
    assert device.poll(2.0).events == ()


@pytest.mark.parametrize('clicks', range(1, 8))
def test_clicks_of_the_right_button_alone_are_the_episode_keys(mouse, clicks):
    cable, device = mouse()
    now, events = 0.0, []
    for _ in range(clicks):
        for bits in (RIGHT, 0):
            cable.send(buttons(bits))
            events += device.poll(now := now + 0.1).events
    assert events == []
    events += device.poll(now + 1.0).events
    assert events == list(CLICKS[clicks - 1:clicks])


def test_the_right_button_held_stops_the_arm_at_once_and_only_once(mouse):
    cable, device = mouse()
    cable.send(buttons(RIGHT))
    events = [device.poll(0.1 * i).events for i in range(10)]
    assert [e for e in events if e] == [('stop_arm',)] and events[5] == ('stop_arm',)
    cable.send(buttons(0))
    assert device.poll(1.0).events == device.poll(3.0).events == ()


def test_larger_models_have_buttons_for_everything(mouse):
    for bit, event in PRO_EVENTS.items():
        cable, device = mouse(PRO_WIRELESS)
        cable.send(buttons(1 << bit, size=6))
        assert device.poll(0.0).events == (event,)
    assert {*PRO_EVENTS.values(), 'gripper', *CLICKS} == set(EVENTS) - {'clear_faults'}


def test_a_small_model_never_reads_the_large_ones_buttons(mouse):
    cable, device = mouse(NAVIGATOR)
    cable.send(buttons(1 << 22, size=4))
    assert device.poll(0.0).events == ()


def test_a_deflected_cap_that_falls_silent_lets_go(mouse):
    cable, device = mouse(WIRELESS)
    cable.send(buttons(LEFT))
    cable.send(motion(0, -350, 0, 0, 0, 0))
    assert device.poll(0.0).deadman and device.poll(0.2).deadman
    lost = device.poll(0.3)
    assert not lost.deadman and not lost.axes.any()
    cable.send(motion(0, -350, 0, 0, 0, 0))
    assert device.poll(0.4).deadman


def test_a_cap_at_rest_may_be_silent(mouse):
    cable, device = mouse()
    cable.send(buttons(LEFT))
    cable.send(motion(0, 3, 0))
    device.poll(0.0)
    assert device.poll(60.0).deadman


@pytest.mark.parametrize('report', [
    b'\x01\x00', b'\x17\x64\x01', b'\x02', b'\x03', bytes([9] * 64)])
def test_reports_of_another_kind_change_nothing(mouse, report):
    cable, device = mouse()
    cable.send(motion(0, -350, 0))
    cable.send(report)
    given = device.poll(0.0)
    np.testing.assert_allclose(given.axes, [1, 0, 0, 0, 0, 0])
    assert not given.deadman and given.events == ()


def test_an_unplugged_one_is_gone(mouse):
    cable, device = mouse()
    cable.unplug()
    with pytest.raises(DeviceError, match='unplugged'):
        device.poll(0.0)


def entry(vendor, product, usage_page=0, usage=0):
    # As the libusb backend lists a device that may not be opened: without a name.
    return {'vendor_id': vendor, 'product_id': product, 'usage_page': usage_page, 'usage': usage,
            'product_string': ''}


@pytest.mark.parametrize(('found', 'wanted'), [
    (entry(0x256f, 0xc635), True), (entry(0x256f, 0xc635, 1, 8), True),
    (entry(0x256f, 0xc650, 1, 2), False), (entry(0x046d, 0xc626, 1, 8), True),
    (entry(0x046d, 0xc077, 1, 2), False), (entry(0x054c, 0x0ce6), False)])
def test_it_is_found_by_numbers_not_by_name(found, wanted):
    assert is_spacemouse(found) == wanted


def test_a_refusal_says_what_is_there():
    hidraw = pytest.importorskip('hidraw')
    if any(map(is_spacemouse, hidraw.enumerate())):
        pytest.skip('a SpaceMouse is plugged in here')
    with pytest.raises(DeviceError, match='no SpaceMouse is plugged in .*256f.*there are'):
        open_spacemouse()
