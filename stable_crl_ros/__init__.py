"""Show a WidowX robot a photograph of what you want, and it does it."""

__version__ = '0.1.0'
