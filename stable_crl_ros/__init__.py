"""Show a WidowX robot a photograph of what you want, and it does it."""

from pathlib import Path

__version__ = '0.1.0'

SHIPPED_CHECKPOINT = Path(__file__).parent / 'assets' / 'policy.safetensors'
SHIPPED_GOALS = Path(__file__).parent / 'assets' / 'goals'
