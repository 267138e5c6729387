"""Teleoperation devices: key or stick to a delta action."""
