"""The WidowX 250s: kinematics, safety and drivers."""
