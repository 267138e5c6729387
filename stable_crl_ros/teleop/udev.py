"""The udev rules for teleoperation devices; `config/70-stable-crl-teleop.rules` is this text."""

LOGITECH, CONNEXION = 0x046d, 0x256f
# Logitech's number is shared with its mice and keyboards, so these count by product; the list is
# that of spacenavd (src/dev.c) but for the NuLOOQ, which has other axes.
LOGITECH_PRODUCTS = (0xc603, 0xc605, 0xc606, 0xc621, 0xc623, 0xc625, 0xc626, 0xc627, 0xc628,
                     0xc629, 0xc62b)
FILE = '70-stable-crl-teleop.rules'
INSTALL = f"""\
# Whoever sits at the machine, and the group input over SSH, may read gamepads and SpaceMice:
#   sudo cp {FILE} /etc/udev/rules.d/ && sudo udevadm control --reload
#   sudo usermod -aG input $USER
# then log in again and plug the device in again."""
ACCESS = 'MODE="0660", GROUP="input", TAG+="uaccess"'


def rules() -> str:
    """Return the text of the file."""
    # The parent of a hidraw device is named BUS:VENDOR:PRODUCT.NUMBER, also over Bluetooth.
    # Logitech's vendor number is on mice and keyboards too.
    logitech = '|'.join(f'*:{LOGITECH:04X}:{product:04X}.*' for product in LOGITECH_PRODUCTS)
    lines = [INSTALL, '', '# Gamepads, as event devices.',
             f'SUBSYSTEM=="input", KERNEL=="event*", ENV{{ID_INPUT_JOYSTICK}}=="1", {ACCESS}',
             '', '# SpaceMouse: hidapi reads hidraw devices; some builds of it go through libusb.',
             *(f'SUBSYSTEM=="hidraw", KERNELS=="{kernels}", {ACCESS}'
               for kernels in (f'*:{CONNEXION:04X}:*', logitech)),
             'SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", '
             f'ATTR{{idVendor}}=="{CONNEXION:04x}", {ACCESS}']
    return '\n'.join(lines) + '\n'
