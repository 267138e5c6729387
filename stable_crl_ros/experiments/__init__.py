"""Comparisons of algorithms, and what their networks know: suites, tables, figures."""
